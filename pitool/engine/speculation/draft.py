"""Loads a draft model beside the model it guesses for, and sees that it speaks the same tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pitool.catalog.model_shape import VOCABULARY_PADDING
from pitool.engine import registry
from pitool.engine.base import Engine, Settings
from pitool.errors import UsageError

COMPARED = 4096
"""Tokens of both vocabularies that are compared, evenly over all of them."""


def use_draft(engine: Engine, settings: Settings) -> None:
    """Load the draft model that settings name, if any, and have the engine guess with it.

    UsageError where it has another vocabulary, or the engine guesses nothing.
    """
    if settings.draft is None:
        return
    use: Any = getattr(engine, "use_draft", None)
    if use is None or engine.info.no_guesses or not settings.guesses:
        why = engine.info.no_guesses or "this model's runtime guesses no tokens"
        raise UsageError(why, "leave out --draft")
    form, path = settings.draft
    own = replace(
        settings, guesses=0, draft=None, costs=(), outputs=1, adapters=(), ends=(), tokenizer=None
    )
    draft: Any = registry.load(registry.find_engine(form), Path(path), own)
    why = _refusal(engine, draft)
    if why:
        draft.close()
        raise UsageError(why, "use a model of the same family as --draft, or none")
    use(draft)


def _refusal(engine: Engine, draft: Engine) -> str:
    """Say why a model cannot guess for another; empty where it can."""
    ours, theirs = engine.info.vocabulary, draft.info.vocabulary
    name = draft.info.name or "the draft model"
    if draft.info.task != "generate" or not hasattr(draft, "guess"):
        return f"{name} writes no text"
    if abs(ours - theirs) > VOCABULARY_PADDING or any(
        engine.detokenize([token]) != draft.detokenize([token])
        for token in _some(min(ours, theirs))
    ):
        return f"{name} has another vocabulary than {engine.info.name}"
    return ""


def _some(count: int) -> Iterator[int]:
    yield from range(0, count, max(count // COMPARED, 1))

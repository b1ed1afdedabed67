"""Filling in the middle: a text between two others, by the tokens that some models have for it."""

from __future__ import annotations

from collections.abc import Sequence

from pitool.engine.base import Engine
from pitool.errors import UsageError

# What stands before the text in front, the text behind, and the one that is wanted.
SPELLINGS = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen, CodeGemma
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, SmolLM2
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # Granite, SantaCoder
    ("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),  # GLM-4
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek Coder
    ("<PRE>", "<SUF>", "<MID>"),  # CodeLlama
)


def between(engine: Engine, before: str | Sequence[int], after: str) -> list[int]:
    """Return the tokens of a prompt whose answer belongs between two texts.

    UsageError of a model without such tokens.
    """
    words = next(filter(None, (_tokens(engine, each) for each in SPELLINGS)), None)
    if words is None:
        raise UsageError(
            "the model has no tokens to fill in the middle", "drop 'suffix', or use a code model"
        )
    start = engine.tokenize("")
    front = _plain(engine, before, start) if isinstance(before, str) else list(before)
    prefix, suffix, middle = words
    return [*start, prefix, *front, suffix, *_plain(engine, after, start), middle]


def _tokens(engine: Engine, spelling: Sequence[str]) -> list[int] | None:
    """Return the ids of three words that are a token each; None where one is not."""
    start = engine.tokenize("")
    found = [_plain(engine, word, start) for word in spelling]
    return [ids[0] for ids in found] if all(len(ids) == 1 for ids in found) else None


def _plain(engine: Engine, text: str, start: Sequence[int]) -> list[int]:
    """Return the tokens of a text without what begins one."""
    return engine.tokenize(text)[len(start) :]

"""The kinds of text that a certificate tells apart: chat, prose and code.

They are read beside the certificate's own text, which may be the user's: an artifact that is good
at prose may be worse at code. Owns which tokens are read; how they are scored is ``comparison``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pitool.engine.base import Message
from pitool.errors import PitoolError
from pitool.quality import texts
from pitool.quality.health import LogitsEngine, windows_of

CHAT, PROSE, CODE = KINDS = ("chat", "prose", "code")
# Of the tokens that are read of a certificate's own text, so many are read of each kind.
SHARE = 4
# Below this many tokens a text says nothing.
LEAST_TOKENS = 16

Windows = list[list[int]]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of text in windows of token ids; logits (rows, vocabulary) of their scored rows."""

    name: str
    windows: Windows
    logits: list[NDArray[np.float32]]


def tokens_beside(tokens: int) -> int:
    """Return how many tokens are read of each kind beside so many of a certificate's own text."""
    return max(tokens // SHARE, LEAST_TOKENS)


def kind_windows(engine: LogitsEngine, each: int, window: int) -> Mapping[str, Windows]:
    """Return windows with ``each`` tokens of each kind of text.

    Without kinds of which the vocabulary spells too little.
    """
    found = {name: ids(engine, each)[:each] for name, ids in _READERS.items()}
    return {
        name: windows_of(engine, ids, min(window, len(ids)))
        for name, ids in found.items()
        if len(ids) >= LEAST_TOKENS
    }


def _chat(engine: LogitsEngine, tokens: int) -> list[int]:
    """Return conversations as the model's template writes them, one after the other."""
    found: list[int] = []
    for talk in texts.talks():
        if len(found) >= tokens:
            break
        with suppress(PitoolError):  # a template that takes no such talk is said elsewhere
            found += engine.tokenize([Message(role, text) for role, text in talk])
    return found


def _prose(engine: LogitsEngine, tokens: int) -> list[int]:
    return engine.tokenize(texts.prose(engine.tokenize, tokens))


def _code(engine: LogitsEngine, tokens: int) -> list[int]:
    return engine.tokenize(texts.code(engine.tokenize, tokens))


_READERS: Mapping[str, Callable[[LogitsEngine, int], list[int]]] = {
    CHAT: _chat,
    PROSE: _prose,
    CODE: _code,
}

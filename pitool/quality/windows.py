"""Cuts a text into windows and says which predictions count, as llama-perplexity does.

A window has 512 tokens; only its second half is scored, so that every prediction sees context.
Where the tokenizer puts a token at the beginning of a text, every window begins with it.
"""

from __future__ import annotations

from collections.abc import Sequence

WINDOW = 512


def cut(ids: Sequence[int], begin: Sequence[int] = (), size: int = WINDOW) -> list[list[int]]:
    """Return the whole windows of ``size`` tokens; a shorter text is one window.

    ``begin``: what an empty text tokenizes to.
    """
    if len(ids) < size:
        return [list(ids)]
    starts = range(0, len(ids) - size + 1, size)
    first = list(begin[:1])
    return [first + list(ids[s + len(first) : s + size]) for s in starts]


def unscored(window: Sequence[int]) -> int:
    """Return how many rows at the beginning of a window do not count."""
    return len(window) // 2

"""Cuts a growing Markdown text into pieces of bounded size, each a document of its own.

Appending to a piece costs what the piece is long, not what the answer is long.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LIMIT = 3000
"""Characters from which on a piece ends at the next place where it may."""

_BREAK = re.compile(r"(?<=\n\n)(?=\S)|(?<=\n)(?=(?:[-*+]|\d+[.)]) )")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})([^\n]*)$", re.MULTILINE)
_LOOK_AHEAD = 5  # so that "1" is known to be the beginning of "10. item", or not


@dataclass(frozen=True, slots=True)
class Piece:
    """A text to append: to the last piece, or as the beginning of the next one."""

    text: str
    begins: bool


class Segmenter:
    """Takes a text as it grows and says what of it goes where."""

    def __init__(self) -> None:
        self._text = ""

    def feed(self, new: str) -> list[Piece]:
        """Return the pieces that ``new`` becomes."""
        pieces: list[Piece] = []
        while (found := self._cut(new)) is not None:
            end, rest = found
            if end:
                pieces.append(Piece(end, begins=not self._text))
            self._text, new = "", rest
        if new:
            pieces.append(Piece(new, begins=not self._text))
            self._text += new
        return pieces

    def _cut(self, new: str) -> tuple[str, str] | None:
        """Return what ends the present piece and what begins the next, None where it goes on.

        A code block that is cut is closed here and opened again there.
        """
        text = self._text + new
        if len(text) <= LIMIT:
            return None
        old, least = len(self._text), max(len(self._text), LIMIT // 2)
        for match in re.compile(r"(?<=\n)").finditer(text, least):
            place = match.start()
            if (fence := _open_fence(text[:place])) is not None:
                opening, mark = fence
                if text[place:].lstrip(" ").startswith(mark[0]) or not text[place:]:
                    continue  # it ends here anyway, or may
                return f"{text[old:place]}{mark}\n", f"{opening}\n{text[place:]}"
            if _BREAK.match(text, place) and len(text) - place >= _LOOK_AHEAD:
                return text[old:place], text[place:]
        return None


def _open_fence(text: str) -> tuple[str, str] | None:
    """Return the opening line and the mark of a code block that is open at the end of a text."""
    opened: tuple[str, str] | None = None
    for match in _FENCE.finditer(text):
        mark, info = match[1], match[2]
        if opened is None:
            opened = match[0].lstrip(" "), mark
        elif mark.startswith(opened[1]) and not info.strip():
            opened = None
    return opened

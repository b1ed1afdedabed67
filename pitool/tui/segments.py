"""Cuts a growing Markdown text into pieces of bounded size, each a document of its own.

Appending to a piece costs what the piece is long, not what the answer is long.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LIMIT = 400
"""Characters from which on a piece ends at the next place where it may."""

MOST = 6 * LIMIT
"""Characters from which on it ends where it should rather not: within a paragraph."""

_BREAK = re.compile(r"(?<=\n\n)(?=\S)|(?<=\n)(?=(?:[-*+]|\d+[.)]) )")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})([^\n]*)$", re.MULTILINE)
_LINE_END = re.compile(r"(?<=\n)")
_LOOK_AHEAD = 5  # so that "1" is known to be the beginning of "10. item", or not


@dataclass(frozen=True, slots=True)
class Piece:
    """A text to append: to the last piece, or as the beginning of the next one.

    ``apart``: whether one that begins stands apart from the one before, rather than going on with
    its code block, list or paragraph.
    """

    text: str
    begins: bool
    apart: bool


class Segmenter:
    """Takes a text as it grows and says what of it goes where."""

    def __init__(self) -> None:
        self._text = ""
        self._apart = False

    def feed(self, new: str) -> list[Piece]:
        """Return the pieces that ``new`` becomes."""
        pieces: list[Piece] = []
        while (found := self._cut(new)) is not None:
            end, rest = found
            if end:
                pieces.append(self._piece(end))
            self._apart = (self._text + end).endswith("\n\n")
            self._text, new = "", rest
        if new:
            pieces.append(self._piece(new))
            self._text += new
        return pieces

    def _piece(self, text: str) -> Piece:
        return Piece(text, begins=not self._text, apart=self._apart)

    def _cut(self, new: str) -> tuple[str, str] | None:
        """Return what ends the present piece and what begins the next, None where it goes on."""
        text = self._text + new
        if len(text) <= LIMIT:
            return None
        old, least = len(self._text), max(len(self._text), LIMIT // 2)
        for match in _LINE_END.finditer(text, least):
            place = match.start()
            if (fence := _open_fence(text[:place])) is not None:
                if text[place:].lstrip(" ").startswith(fence[1][0]) or not text[place:]:
                    continue  # it ends here anyway, or may
                return _cut_at(text, old, place, fence)
            if _BREAK.match(text, place) and len(text) - place >= _LOOK_AHEAD:
                return text[old:place], text[place:]
        if len(text) <= MOST or _in_table(text):
            return None
        place = _least_bad(text, old)
        return _cut_at(text, old, place, _open_fence(text[:place]))


def _cut_at(text: str, old: int, place: int, fence: tuple[str, str] | None) -> tuple[str, str]:
    """Cut at a place; a code block that is cut is closed here and opened again there."""
    if fence is None:
        return text[old:place], text[place:]
    opening, mark = fence
    line_end = "" if text[:place].endswith("\n") else "\n"
    return f"{text[old:place]}{line_end}{mark}\n", f"{opening}\n{text[place:]}"


def _in_table(text: str) -> bool:
    """Tell whether the last line is a row of a table, which is nothing without its head."""
    return text.rstrip("\n").rpartition("\n")[2].lstrip().startswith("|")


def _least_bad(text: str, old: int) -> int:
    """Return the last place from ``old`` on after a line, else after a word, else the end."""
    return (text.rfind("\n", old) + 1) or (text.rfind(" ", old) + 1) or len(text)


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

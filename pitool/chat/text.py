"""The texts of a conversation: files before a question, thinking before an answer, growing pieces.

Text in, text out: knows neither engine nor screen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pitool.catalog.unicode import clean
from pitool.chat_format import AnswerParser, Content, Event, Reasoning
from pitool.chat_format.formats import THINKING
from pitool.errors import BadInput

ATTACHMENT_BYTES = 256 * 1024
"""More text than any context of a board holds."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """The name and the text of a file."""

    name: str
    text: str

    def __post_init__(self) -> None:
        clean(self, "name")

    @property
    def bytes(self) -> int:
        """The size of the text in UTF-8."""
        return len(self.text.encode())

    def before(self, question: str) -> str:
        """Return the question after the file, in a fence that nothing in it can close."""
        longest = max((len(run) for run in re.findall("`{3,}", self.text)), default=2)
        fence = "`" * (longest + 1)
        return f"{self.name}:\n\n{fence}\n{self.text.rstrip()}\n{fence}\n\n{question}"


def attach(path: Path) -> Attachment:
    """Read a text file; BadInput where it is none, or has no place in a context."""
    try:
        with path.open("rb") as file:
            data = file.read(ATTACHMENT_BYTES + 1)
    except OSError as error:
        raise BadInput(f"cannot read {path} ({error.strerror})", "choose a text file") from None
    if len(data) > ATTACHMENT_BYTES:
        raise BadInput(
            f"{path} is larger than {ATTACHMENT_BYTES // 1024} KiB", "attach a part of it"
        )
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise BadInput(f"{path} is not a text file", "attach a text file in UTF-8")
    return Attachment(path.name, text)


@dataclass(frozen=True, slots=True)
class AnswerParts:
    """``thinking`` is empty for most models; ``thought``: whether it has come to its end."""

    thinking: str
    answer: str
    thought: bool


def split_thinking(text: str) -> AnswerParts:
    """Return thinking and answer apart, also of a text that still grows; by any family's marks.

    Some chat templates write the opening mark into the prompt: then only the closing one is seen.
    """
    start = text.lstrip()
    for name, marks in THINKING.items():
        before, closed, _ = text.partition(marks.close)
        begun = start.startswith(marks.open)
        if begun or (closed and marks.open not in before):
            parser = AnswerParser(f"/{name}", before="" if begun else marks.open)
            return _parts(parser.feed(text), thought=bool(closed))
        if start and marks.open.startswith(start):
            return AnswerParts("", "", False)  # the mark itself may still be on its way
    return AnswerParts("", text, True)


def _parts(events: Sequence[Event], *, thought: bool) -> AnswerParts:
    thinking = "".join(event.text for event in events if isinstance(event, Reasoning))
    answer = "".join(event.text for event in events if isinstance(event, Content))
    return AnswerParts(thinking, answer, thought)


PIECE_CHARACTERS = 400
"""Characters from which on a piece ends at the next place where it may."""

MOST_CHARACTERS = 6 * PIECE_CHARACTERS
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
        if len(text) <= PIECE_CHARACTERS:
            return None
        old, least = len(self._text), max(len(self._text), PIECE_CHARACTERS // 2)
        for match in _LINE_END.finditer(text, least):
            place = match.start()
            if (fence := _open_fence(text[:place])) is not None:
                if text[place:].lstrip(" ").startswith(fence[1][0]) or not text[place:]:
                    continue  # it ends here anyway, or may
                return _cut_at(text, old, place, fence)
            if _BREAK.match(text, place) and len(text) - place >= _LOOK_AHEAD:
                return text[old:place], text[place:]
        if len(text) <= MOST_CHARACTERS or _in_table(text):
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

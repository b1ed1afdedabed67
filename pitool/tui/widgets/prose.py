"""A text in Markdown that grows: one widget, of which only the lines in sight are drawn.

What a step costs does not depend on the length of the text: only its last piece is parsed and
wrapped again, and a layout sees a single widget.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.selection import Selection
from textual.strip import Strip
from textual.style import Style
from textual.visual import Visual

from pitool.chat.text import Segmenter
from pitool.tui.widgets.settled import Settled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pitool.tui.markdown import Laid

FAST = 2
"""Lines in one step from which on a text grows fast."""

ROOM = 8
"""Lines that are then kept free below it: a layout of the screen for each of them is saved."""


@dataclass(slots=True)
class _Piece:
    """A part of the text that is parsed by itself; only the last one grows."""

    apart: bool
    text: str = ""
    laid: list[Laid] = field(default_factory=list)

    def add(self, text: str) -> None:
        # Here, so that an empty chat does not wait for the import of a parser.
        from pitool.tui.markdown import blocks

        self.text += text
        self.laid = blocks(self.text, apart=self.apart)

    def lines(self, width: int) -> Iterator[Content]:
        from pitool.tui.markdown import lines

        return lines(self.laid, width)


class Prose(Settled):
    """Shows Markdown that is appended to; text can be selected, and links post ``Link``."""

    DEFAULT_CSS = """
    Prose { height: auto; padding: 0 1 0 2; text-wrap: nowrap; }
    """

    @dataclass
    class Link(Message):
        """The user clicked a link."""

        target: str

    def __init__(self) -> None:
        super().__init__()
        self._begin()

    def _begin(self) -> None:
        self.source = ""
        self._segmenter = Segmenter()
        self._pieces: list[_Piece] = []
        self._width = 0
        self._lines: list[Content] = []
        self._height = 0
        self._drawn: dict[int, Strip] = {}
        self._drawn_in: Style | None = None
        self._finished = 0

    def clear(self) -> None:
        """Begin with an empty text again."""
        self._begin()
        self.refresh(layout=True)

    def become(self, text: str) -> None:
        """Show a text: what is new of it, or all where it does not go on from what is shown."""
        if not text.startswith(self.source):
            self.clear()
        if len(text) > len(self.source):
            self.append(text[len(self.source) :])

    def append(self, text: str) -> None:
        """Show more."""
        self.source += text
        before, growing = len(self._lines), self._lines[self._finished :]
        start = self._finished
        for piece in self._segmenter.feed(text):
            if piece.begins or not self._pieces:
                self._close_piece()
                self._pieces.append(_Piece(piece.apart))
            self._pieces[-1].add(piece.text)
        self._lay_out_last()
        # What is drawn already stays, line by line: most steps change the last one only.
        same = _same(growing, self._lines[start:])
        for line in range(start + same, before):
            self._drawn.pop(line, None)
        now = len(self._lines)
        changed = Region(0, start + same, self._width, max(before, now) - start - same)
        if now > self._height or not self._width:
            self._height = now + (ROOM if now - before >= FAST and before else 0)
            self.refresh(changed, layout=True)
        elif changed:
            self.refresh(changed)

    def settle(self) -> None:
        """Keep no room below a text that does not grow any more."""
        if self._height != len(self._lines):
            self._height = len(self._lines)
            self.refresh(layout=True)

    def _close_piece(self) -> None:
        """Take the lines of the last piece as they are."""
        self._lay_out_last()
        self._finished = len(self._lines)

    def _lay_out_last(self) -> None:
        if self._pieces and self._width:
            self._lines[self._finished :] = self._pieces[-1].lines(self._width)

    def _lay_out(self, width: int) -> list[Content]:
        """Return all lines; all pieces are wrapped again where the width is another one."""
        if width != self._width:
            self._width, self._lines, self._finished = width, [], 0
            self._drawn.clear()
            for piece in self._pieces:
                self._finished = len(self._lines)
                self._lines += piece.lines(width)
            self._height = len(self._lines)
        return self._lines

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002
        """Return the number of lines at a width, with the room below them."""
        return max(len(self._lay_out(width)), self._height) if width else 0

    def render_line(self, y: int) -> Strip:
        """Draw a line; those that scrolled only are not drawn anew."""
        found, chosen = self._lay_out(self.size.width), self.text_selection
        if y >= len(found):
            return self._draw(y, Content())
        if chosen and (span := chosen.get_span(y)):
            start, end = span
            style = Style.from_styles(self.screen.get_component_styles("screen--selection"))
            return self._draw(y, found[y].stylize(style, start, None if end == -1 else end))
        if self._drawn_in != self.visual_style:
            self._drawn_in = self.visual_style
            self._drawn.clear()
        if (strip := self._drawn.get(y)) is None:
            strip = self._drawn[y] = self._draw(y, found[y])
        return strip

    def _draw(self, y: int, line: Content) -> Strip:
        width = self.size.width
        strips = Visual.to_strips(
            self, line, width, 1, self.visual_style, apply_selection=False, pad=True
        )
        return strips[0].apply_offsets(0, y) if strips else Strip.blank(width)

    def get_selection(self, selection: Selection) -> tuple[str, str]:
        """Return the lines that are selected, as they are shown."""
        text = "\n".join(line.plain.rstrip() for line in self._lines)
        return selection.extract(text), "\n"

    def action_link(self, target: str) -> None:
        """Say which link was clicked."""
        self.post_message(self.Link(target))


def _same(before: Sequence[Content], after: Sequence[Content]) -> int:
    """Return how many lines from the first one on are as they were, styles included."""
    for number, (old, new) in enumerate(zip(before, after, strict=False)):
        if old.plain != new.plain or old.spans != new.spans:
            return number
    return min(len(before), len(after))

"""What of a line a terminal would obey is left out: Textual draws such characters as they are."""

from __future__ import annotations

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from pitool.errors import harmless


class Harmless(LineFilter):
    """Leaves out of a drawn line what a terminal would obey; it was laid out without width."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002 - Textual's
        """Return the segments with what can be shown."""
        return [
            segment
            if segment.text.isprintable()
            else Segment(harmless(segment.text, ""), segment.style, segment.control)
            for segment in segments
        ]


HARMLESS = Harmless()
"""The one of all lines: Textual keeps what a filter made of a line beside the filter."""

"""A line to type into, whose cursor stands still."""

from __future__ import annotations

from textual.widgets import Input


class Line(Input):
    """A blinking cursor would wake the CPU when nothing happens."""

    def on_mount(self) -> None:
        """Keep the cursor still."""
        self.cursor_blink = False

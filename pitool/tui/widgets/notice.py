"""The line above the keys in which pitool says something for a moment: one at a time."""

from __future__ import annotations

from textual.content import Content
from textual.timer import Timer
from textual.widgets import Static

LEAST_SECONDS, CHARACTERS_A_SECOND = 4.0, 15.0
_STYLES = {"information": "$foreground", "warning": "$text-warning", "error": "$text-error"}


class NoticeLine(Static):
    """Takes its room from what scrolls, so that it covers neither the prompt nor a figure."""

    DEFAULT_CSS = """
    NoticeLine {
        height: auto; max-height: 6; padding: 0 1; display: none; background: $panel;
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self._timer: Timer | None = None

    def say(self, text: str, severity: str, seconds: float | None = None) -> None:
        """Show a text in place of the one before, as long as it takes to read it."""
        style = _STYLES.get(severity, "")
        self.text = text
        self.update(Content.styled(text, style))
        self.display = True
        if self._timer is not None:
            self._timer.stop()
        needed = max(LEAST_SECONDS, len(text) / CHARACTERS_A_SECOND)
        self._timer = self.set_timer(max(seconds or 0.0, needed), self.clear)

    def clear(self) -> None:
        """Show nothing."""
        self.text = ""
        self.display = False

"""What a job in a thread does now, on a screen: a bar with its rate, redrawn a few times a second.

The one place that says how often; the job ends where the user does not want it any more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from textual.content import Content

from pitool.errors import Interrupted
from pitool.report.pace import Pace
from pitool.tui.widgets.gauge import gauge

LOOK_SECONDS = 0.2
"""Least time between two steps of a bar."""
_BAR = 16


class ShownProgress:
    """The ``Progress`` of a job that counts bytes: tells ``show``, and ends once ``end`` is set."""

    def __init__(self, show: Callable[[Content], object], end: threading.Event) -> None:
        self._show, self._end = show, end
        self._title, self._pace, self._last = "", Pace(1), 0.0

    def stage(self, title: str, total: int, *, bytes_: bool = False) -> None:  # noqa: ARG002
        """Begin a stage."""
        self._title, self._pace, self._last = title, Pace(total), 0.0
        self._show(Content(f"{title} …"))

    def advance(self, count: int) -> None:
        """Report units done; Interrupted where the user does not want them any more."""
        if self._end.is_set():
            raise Interrupted("the job was stopped")
        self._pace.advance(count)
        now = time.monotonic()
        if now - self._last >= LOOK_SECONDS:
            self._last = now
            self._show(self._line())

    def close(self) -> None:
        """End the last stage."""

    def _line(self) -> Content:
        text = f" {self._pace.bytes_words()} · Esc stops"
        return Content(f"{self._title}\n") + gauge(self._pace.share, _BAR) + text

"""What a job in a thread does now, on a screen: a bar with its rate, redrawn a few times a second.

The one place that says how often; the job ends where the user does not want it any more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from textual.content import Content

from pitool.errors import Interrupted
from pitool.report.numbers import format_bytes, format_seconds, format_share
from pitool.tui.widgets.gauge import gauge

LOOK_SECONDS = 0.2
"""Least time between two steps of a bar."""
_BAR = 16


class ShownProgress:
    """The ``Progress`` of a job that counts bytes: tells ``show``, and ends once ``end`` is set."""

    def __init__(self, show: Callable[[Content], object], end: threading.Event) -> None:
        self._show, self._end = show, end
        self._title, self._total = "", 1
        self._done, self._first, self._start, self._last = 0, 0, 0.0, 0.0

    def stage(self, title: str, total: int, *, bytes_: bool = False) -> None:  # noqa: ARG002
        """Begin a stage."""
        self._title, self._total = title, max(total, 1)
        self._done, self._first, self._start, self._last = 0, 0, time.monotonic(), 0.0
        self._show(Content(f"{title} …"))

    def advance(self, count: int) -> None:
        """Report units done; Interrupted where the user does not want them any more."""
        if self._end.is_set():
            raise Interrupted("the job was stopped")
        self._done += count
        now = time.monotonic()
        if not self._last:  # what was here already says nothing about the line
            self._first, self._start = self._done, now
        if now - self._last >= LOOK_SECONDS:
            self._last = now
            self._show(self._line(now))

    def close(self) -> None:
        """End the last stage."""

    def _line(self, now: float) -> Content:
        rate = (self._done - self._first) / max(now - self._start, 1e-3)
        bar = gauge(self._done / self._total, _BAR)
        text = f" {format_share(self._done / self._total):>4} of {format_bytes(self._total)}"
        if rate > 0:
            left = (self._total - self._done) / rate
            text += f" · {format_bytes(rate)}/s · {format_seconds(left)} left"
        return Content(f"{self._title}\n") + bar + text + " · Esc stops"

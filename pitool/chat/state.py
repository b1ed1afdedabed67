"""The status that a chat shows, as it changes; who looks at it is told, but not too often."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from pitool.chat.status import Status

FRAME_SECONDS, SLOWEST_SECONDS = 1 / 15, 1 / 3
"""Least time between two notifications of one answer, on a fast machine and on a slow one."""

SCREEN_SHARE = 0.02
"""Of one core, what drawing an answer may take: the cores belong to the model."""


class State:
    """Holds the present status; ``notify`` is called from the thread that changed it."""

    def __init__(self, notify: Callable[[], None]) -> None:
        self.status = Status()
        self._notify = notify
        self._lock = threading.Lock()
        self._told, self._frame_seconds = 0.0, FRAME_SECONDS

    def set(self, *, often: bool = False, **changes: object) -> None:
        """Change the status and have somebody look; changes that come ``often`` are capped."""
        with self._lock:
            self.status = replace(self.status, **changes)  # type: ignore[arg-type]
        now = time.monotonic()
        if not often or now - self._told >= self._frame_seconds:
            self._told = now
            self._notify()

    def look(self) -> None:
        """Have somebody look at what else changed."""
        self._notify()

    def pace(self, seconds: float) -> None:
        """Be told what CPU time a look took; the next ones come as often as that allows."""
        self._frame_seconds = max(FRAME_SECONDS, min(seconds / SCREEN_SHARE, SLOWEST_SECONDS))

"""A thread that does one thing after another, each with an event that asks it to end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

Errand = Callable[[threading.Event], None]


class Errands:
    """Does what is handed in, in order; ``failed`` is told of an exception, and the next follows.

    The thread is a daemon, so that a load that hangs cannot keep the program from ending.
    """

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed = failed
        self._latest = threading.Event()
        self._queue: queue.SimpleQueue[tuple[Errand, threading.Event] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="session", daemon=True)
        self._thread.start()

    def add(self, errand: Errand) -> None:
        """Do something after all that was handed in before."""
        self._latest = threading.Event()
        self._queue.put((errand, self._latest))

    def cancel(self) -> None:
        """Ask what was handed in last to end."""
        self._latest.set()

    def close(self, seconds: float) -> None:
        """Do what is handed in already and end; gives up waiting after ``seconds``."""
        self._queue.put(None)
        self._thread.join(seconds)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            errand, cancel = item
            try:
                errand(cancel)
            except Exception as error:
                self._failed(error)

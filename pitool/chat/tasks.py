"""The tasks of a session: done one after another, each with a cancel event of its own.

Owns order and cancelling only; never looks at what a task does or returns.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Protocol

Work = Callable[[threading.Event], None]
"""Does a task; the event is set when the user wants it to end."""


def _nothing() -> None:
    pass


class Task:
    """One thing to do; ``interrupt`` ends a blocking call of it, from any thread."""

    def __init__(self, work: Work, interrupt: Callable[[], object] = _nothing) -> None:
        self._work, self._interrupt = work, interrupt
        self._cancelled, self._running = threading.Event(), False
        # Held while it is interrupted, so that never the task after it is.
        self._lock = threading.Lock()

    def cancel(self) -> None:
        """Ask it to end, whether it runs or waits; after its end nothing happens."""
        self._cancelled.set()
        with self._lock:
            if self._running:
                self._interrupt()

    def run(self) -> None:
        """Do it; one that was cancelled before runs too, for it may have to say so."""
        with self._lock:
            self._running = True
        try:
            self._work(self._cancelled)
        finally:
            with self._lock:
                self._running = False


class Tasks(Protocol):
    """Does what is handed in, in order; an exception is told of, and the next one follows."""

    def add(self, work: Work, interrupt: Callable[[], object] = _nothing) -> Task:
        """Do something after all that was handed in before."""

    def stop(self) -> None:
        """Cancel what runs and all that waits."""

    def close(self, seconds: float) -> None:
        """Do what was handed in already, and end; gives up waiting after ``seconds``."""


Failed = Callable[[Exception], None]
"""Is told of an exception that a task ended in."""


class TaskThread:
    """Does the tasks in a thread of its own.

    The thread is a daemon, so that a load that hangs cannot keep the program from ending.
    """

    def __init__(self, failed: Failed) -> None:
        self._failed = failed
        self._open: list[Task] = []
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="session", daemon=True)
        self._thread.start()

    def add(self, work: Work, interrupt: Callable[[], object] = _nothing) -> Task:
        """Do something after all that was handed in before."""
        task = Task(work, interrupt)
        with self._lock:
            self._open.append(task)
            self._queue.put(task)
        return task

    def stop(self) -> None:
        """Cancel what runs and all that waits."""
        with self._lock:
            tasks = list(self._open)
        for task in tasks:
            task.cancel()

    def close(self, seconds: float) -> None:
        """Do what was handed in already, and end; gives up waiting after ``seconds``."""
        self._queue.put(None)
        self._thread.join(seconds)

    def _run(self) -> None:
        while (task := self._queue.get()) is not None:
            try:
                task.run()
            except Exception as error:
                self._failed(error)
            finally:
                with self._lock:
                    self._open.remove(task)


class TasksAtOnce:
    """Does each task where it is handed in, before ``add`` returns: for a program of one thread.

    ``stop`` may be called by a signal handler meanwhile: it sets the event and interrupts nothing,
    for the handler runs in the middle of whatever the task does.
    """

    def __init__(self, failed: Failed) -> None:
        self._failed = failed
        self._cancelled: threading.Event | None = None

    def add(self, work: Work, interrupt: Callable[[], object] = _nothing) -> Task:
        """Do something now."""

        def noted(cancelled: threading.Event) -> None:
            self._cancelled = cancelled
            work(cancelled)

        task = Task(noted, interrupt)
        try:
            task.run()
        except Exception as error:
            self._failed(error)
        finally:
            self._cancelled = None
        return task

    def stop(self) -> None:
        """Ask what runs to end."""
        if self._cancelled is not None:
            self._cancelled.set()

    def close(self, seconds: float) -> None:
        """Do nothing: all is done."""

"""The model behind the server: asked by one request at a time, loaded again if it dies.

Requests wait for their turn up to a number; the next is refused, since on a board each waits for
all before it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pitool.engine.base import Engine, ModelInfo
from pitool.errors import DoesNotFit, PitoolError, WorkerDied

WAITING = 4


class BusyError(DoesNotFit):
    """All places are taken."""


class Model:
    """``load`` opens the engine; ``waiting``: requests that may wait beside the one at work."""

    def __init__(self, load: Callable[[], Engine], waiting: int = WAITING) -> None:
        self._load = load
        self._engine: Engine | None = load()
        self.info: ModelInfo = self._engine.info
        self._turn = threading.Lock()
        self._places = threading.BoundedSemaphore(waiting + 1)

    @contextmanager
    def turn(self) -> Iterator[Engine]:
        """Give the engine to one request; BusyError when too many wait already."""
        if not self._places.acquire(blocking=False):
            raise BusyError("too many requests wait already", "ask again later")
        try:
            with self._turn:
                yield self._ready()
        finally:
            self._places.release()

    def _ready(self) -> Engine:
        if self._engine is None:
            self._engine = self._load()
        return self._engine

    def forget(self, error: PitoolError) -> None:
        """After an error of the one whose turn it is: a dead engine is loaded again next time."""
        if isinstance(error, WorkerDied) and self._engine:
            self._engine.close()
            self._engine = None

    def cancel(self) -> None:
        """End the answer that is being given."""
        if self._engine:
            self._engine.cancel()

    def close(self) -> None:
        """Free the model."""
        if self._engine:
            self._engine.close()
            self._engine = None

"""The model behind the server: used by one request at a time, loaded again if its worker dies.

A limited number of requests wait for their turn; more are refused, since on a board each waits for
all before it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pitool.engine.base import Engine, ModelInfo
from pitool.errors import DoesNotFit, PitoolError, WorkerDied

WAITING = 4
# Seconds after which one that waits is looked at again: it may have gone away.
GLANCE = 0.5

log = logging.getLogger(__name__)


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
        self._count = threading.Lock()
        self._inside = 0

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn."""
        return max(self._inside - 1, 0)

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._turn.locked()

    @contextmanager
    def turn(self, gone: Callable[[], bool] = lambda: False) -> Iterator[Engine]:
        """Give the engine to one request; BusyError when too many wait already.

        ``gone``: whether whoever asked went away, which gives up the place: ConnectionResetError.
        """
        if not self._places.acquire(blocking=False):
            raise BusyError("too many requests are waiting", "try again later")
        try:
            self._enter(1)
            while not self._turn.acquire(timeout=GLANCE):
                if gone():
                    raise ConnectionResetError
            try:
                if gone():
                    raise ConnectionResetError
                yield self._ready()
            finally:
                self._turn.release()
        finally:
            self._enter(-1)
            self._places.release()

    def _enter(self, change: int) -> None:
        with self._count:
            self._inside += change

    def _ready(self) -> Engine:
        if self._engine is None:
            self._engine = self._load()
        return self._engine

    def forget(self, error: PitoolError) -> None:
        """After an error of the one whose turn it is: a dead engine is loaded again next time."""
        if isinstance(error, WorkerDied) and self._engine:
            log.error("%s\n%s", error.sentence, error.details)
            self._engine.close()
            self._engine = None

    def close(self) -> None:
        """Free the model."""
        if self._engine:
            self._engine.close()
            self._engine = None

"""What is loaded: at most one engine, the file it came from, and what of its KV cache is kept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from enum import Enum

from pitool.catalog.bundles import Runnable
from pitool.catalog.files import stamp
from pitool.chat.parking import Parking
from pitool.engine.base import Engine
from pitool.errors import PitoolError
from pitool.store.conversation import Conversation
from pitool.store.prefills import Prefills

Load = Callable[[Runnable, Callable[[float], None]], Engine]
"""Starts an engine, blocking; reports the fraction loaded, from 0 to 1."""


class FileChange(Enum):
    """What became of the file of a model that is loaded."""

    CHANGED = "changed"
    GONE = "gone"


class Loaded:
    """Starts and ends the engine; called by the one thread that uses it."""

    def __init__(self, load: Load, prefills: Prefills | None) -> None:
        self._load, self._parking = load, Parking(prefills)
        self._runnable: Runnable | None = None
        self._stamp: tuple[tuple[str, int, int], ...] = ()
        self.engine: Engine | None = None

    def start(self, runnable: Runnable, progress: Callable[[float], None]) -> Engine:
        """Return the engine of ``runnable``, just started; nothing may be loaded before."""
        self.engine = self._load(runnable, progress)
        self._runnable, self._stamp = runnable, stamp(runnable.entry)
        return self.engine

    def drop(self, *, dead: bool = False) -> None:
        """End the engine; what it has read is saved first, unless it is ``dead``."""
        engine, self.engine = self.engine, None
        if engine is not None:
            with suppress(PitoolError):
                if not dead:
                    self._save(engine)
            with suppress(PitoolError):
                engine.close()
        self._parking.forget()

    def file_change(self) -> FileChange | None:
        """Return what became of the file since the load or the last call."""
        if self.engine is None or self._runnable is None:
            return None
        now = stamp(self._runnable.entry)
        if now == self._stamp:
            return None
        self._stamp = now
        return FileChange.CHANGED if now else FileChange.GONE

    def lend(self, engine: Engine) -> None:
        """Save what the cache holds: who borrows the engine will fill it with something else."""
        self._save(engine)
        self._parking.forget()

    def restore(self, engine: Engine, conversation: Conversation) -> float:
        """Bring back what is kept of a conversation; return the seconds it took."""
        assert self._runnable is not None
        return self._parking.restore(engine, self._runnable, conversation)

    def entered(self, conversation: Conversation, tokens: int) -> None:
        """The cache now holds ``tokens`` of a conversation."""
        self._parking.entered(conversation, tokens)

    def _save(self, engine: Engine) -> None:
        assert self._runnable is not None
        self._parking.save(engine, self._runnable)

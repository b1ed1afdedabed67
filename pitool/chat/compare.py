"""The same prompt on two artifacts, one after the other.

The answers are never generated at the same time: they would share the cores, and no figure would
be true. Both models stay loaded if both fit, else the first is unloaded before the second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from pitool.catalog.bundles import Runnable
from pitool.chat.engine_slot import Load
from pitool.chat.operations import Memory
from pitool.engine.base import Engine, Prompt, Sampling, Timings
from pitool.errors import Interrupted, PitoolError
from pitool.report.numbers import compare_bytes

if TYPE_CHECKING:
    from pitool.device.forecast import Forecast

LOOK_SECONDS = 0.2
"""Least time between two notifications while something goes on."""


class SideState(Enum):
    """What one side is doing; the value is how it is called on screen."""

    WAITING = "waiting"
    LOADING = "loading"
    READING = "processing"
    ANSWERING = "answering"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(slots=True)
class Side:
    """One artifact and how far its answer is; ``memory``: bytes of its worker after the answer."""

    runnable: Runnable
    state: SideState = SideState.WAITING
    text: str = ""
    progress: float = 0.0
    timings: Timings | None = None
    memory: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Room:
    """Whether both have room at once, and why in a sentence."""

    together: bool
    why: str


def room_for(runnables: Sequence[Runnable], verdicts: Sequence[Forecast | None]) -> Room:
    """Return whether artifacts that are not loaded yet have room together."""
    if len(runnables) < 2:
        return Room(together=True, why="both stay loaded")
    known = [v for v in verdicts if v is not None and v.needed is not None]
    available = min((v.available for v in known if v.available is not None), default=None)
    if len(known) < len(runnables) or available is None:
        return Room(together=False, why="one after the other: the memory they need is unknown")
    needed = sum(v.needed or 0 for v in known)
    both, free = compare_bytes(needed, available)
    sizes = f"together they need {both}, and {free} is free"
    if needed <= available:
        return Room(together=True, why=f"both stay loaded: {sizes}")
    return Room(together=False, why=f"one after the other, the first is unloaded: {sizes}")


class Comparison:
    """Holds the engines of a comparison; ``run`` and ``close`` are called by one thread."""

    def __init__(
        self,
        load: Load,
        memory: Memory,
        judge: Callable[[Runnable], Forecast | None],
        notify: Callable[[], None],
    ) -> None:
        self._load, self._read_memory, self._judge, self._notify = load, memory, judge, notify
        self._engines: dict[Path, Engine] = {}
        self._running: Engine | None = None
        self._last = 0.0
        self.sides: tuple[Side, ...] = ()
        self.room = Room(together=False, why="")

    def run(
        self,
        runnables: Sequence[Runnable],
        prompt: Prompt,
        sampling: Sampling,
        cancel: threading.Event,
    ) -> None:
        """Answer the prompt with each artifact; what goes wrong stands in its side."""
        self.sides = tuple(Side(runnable) for runnable in runnables)
        chosen = {runnable.entry for runnable in runnables}
        self._close([entry for entry in self._engines if entry not in chosen])
        missing = [r for r in runnables if r.entry not in self._engines]
        self.room = room_for(missing, [self._judge(runnable) for runnable in missing])
        self._look(now=True)
        for side in self.sides:
            try:
                self._answer(side, prompt, sampling, cancel)
            except Interrupted:
                side.state = SideState.STOPPED
            except PitoolError as error:
                side.state, side.error = SideState.FAILED, error.statement
                self._close([side.runnable.entry])
            if not self.room.together:
                self._close([side.runnable.entry])
            self._look(now=True)

    def cancel(self) -> None:
        """End the running answer within a token; from any thread, its event is set before."""
        if (engine := self._running) is not None:
            with suppress(PitoolError):  # one that is dead has nothing to end
                engine.cancel()

    def close(self) -> None:
        """End all engines."""
        self._close(list(self._engines))

    def _close(self, entries: Iterable[Path]) -> None:
        for entry in entries:
            engine = self._engines.pop(entry, None)
            if engine is not None:
                with suppress(PitoolError):
                    engine.close()

    def _answer(
        self, side: Side, prompt: Prompt, sampling: Sampling, cancel: threading.Event
    ) -> None:
        engine = self._engine(side, cancel)
        engine.clear()  # a prompt that it knows already would not be read again
        side.state = SideState.READING
        told, self._running = False, engine
        for token in engine.stream(prompt, sampling):
            if cancel.is_set() and not told:  # stop may have come before the stream began
                engine.cancel()
                told = True
            side.text += token.text
            side.timings = token.timings
            if token.id is not None:
                side.state = SideState.ANSWERING
            self._look()
        self._running = None
        side.memory = self._read_memory(engine.pid)
        side.state = SideState.STOPPED if cancel.is_set() else SideState.DONE

    def _engine(self, side: Side, cancel: threading.Event) -> Engine:
        """Return the engine of a side, started where it is not."""
        if cancel.is_set():
            raise Interrupted("the comparison was stopped")

        def progress(fraction: float) -> None:
            if cancel.is_set():
                raise Interrupted("the load was stopped")
            side.progress = fraction
            self._look()

        entry = side.runnable.entry
        if entry not in self._engines:
            side.state = SideState.LOADING
            self._engines[entry] = self._load(side.runnable, progress)
        return self._engines[entry]

    def _look(self, *, now: bool = False) -> None:
        """Have somebody look, not too often."""
        moment = time.monotonic()
        if now or moment - self._last >= LOOK_SECONDS:
            self._last = moment
            self._notify()

"""A bench of one artifact: its tests in turn, kept in the history; knows no screen.

``run`` is called in the session's thread after the chat's worker has ended, because two models do
not fit a small board. The sensors are looked at between repetitions, never while one is timed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

from pitool.bench import conditions, learn, plausibility, subject
from pitool.bench.formats import Row, artifact_name, title
from pitool.bench.grid import Grid
from pitool.bench.history import History, Recorded, open_history
from pitool.bench.run import REPETITIONS, Result, Workload, measure
from pitool.bench.subject import Subject
from pitool.catalog.bundles import Runnable
from pitool.device import activity
from pitool.device.activity import Look
from pitool.engine.base import Engine, Settings
from pitool.errors import Interrupted, PitoolError, WorkerDied


class KillableEngine(Engine, Protocol):
    """An engine that can be ended in the middle of a timed call."""

    def kill(self) -> None:
        """End it at once, from any thread; the call raises ``WorkerDied``."""


Load = Callable[[Runnable, int, Callable[[float], None]], KillableEngine]
"""Starts an engine with so many tokens of context, blocking; reports the fraction loaded."""


def run_name() -> str:
    """Return what a run is called in the history: its time."""
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime())


@dataclass(frozen=True, slots=True)
class Tools:
    """What a bench is done with; ``name`` names each run in the history."""

    load: Load
    look: Callable[[int], Callable[[], Look]] = activity.looker
    describe: Callable[[Runnable, Settings, int], Subject] = subject.describe
    learn: Callable[[Iterable[Result], Subject], object] = learn.keep
    history: Callable[[], History] = open_history
    name: Callable[[], str] = run_name


@dataclass(frozen=True, slots=True)
class Tests:
    """A list of tests that the user chooses by name."""

    name: str
    workloads: tuple[Workload, ...]
    repetitions: int

    @property
    def words(self) -> str:
        """``standard: pp512, tg128, 5 each``."""
        names = ", ".join(test.name for test in self.workloads)
        return f"{self.name}: {names}, {self.repetitions} each"

    @property
    def context(self) -> int:
        """Tokens of context that the largest test needs."""
        return max(test.context for test in self.workloads)


QUICK = Tests("quick", (Workload(prompt=128), Workload(generate=32)), 2)
STANDARD = Tests("standard", tuple(Grid().workloads), REPETITIONS)
DEEP = Tests("deep", tuple(Grid(depths=(0, 1024)).workloads), 3)
LISTS = (QUICK, STANDARD, DEEP)


class Stage(Enum):
    """What the bench is doing; the value is how it is called on screen."""

    IDLE = "nothing was measured yet"
    LOADING = "loading"
    MEASURING = "measuring"
    DONE = "done"
    STOPPED = "stopped, what was measured is kept"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a bench is; replaced as a whole, so always consistent.

    ``number``: of the bench since the start; ``loaded``: fraction; ``finished``: tests; ``result``:
    the test that runs; ``rows``: what is in the history of this run; ``said``: what is to be said
    of them.
    """

    number: int = 0
    stage: Stage = Stage.IDLE
    runnable: Runnable | None = None
    tests: Tests = STANDARD
    loaded: float = 0.0
    finished: int = 0
    result: Result | None = None
    rows: tuple[Row, ...] = ()
    said: tuple[str, ...] = ()

    @property
    def running(self) -> bool:
        """Whether there is something to stop."""
        return self.stage in (Stage.LOADING, Stage.MEASURING)

    @property
    def share(self) -> float:
        """Fraction of the repetitions that is done."""
        done = self.finished * self.tests.repetitions
        done += len(self.result.samples_ns) if self.result else 0
        return min(done / (len(self.tests.workloads) * self.tests.repetitions), 1.0)


class Benching:
    """Measures one artifact at a time; ``notify`` is called when there is something to look at.

    ``seen`` is called between repetitions, with the tokens/s of the last if it was a decode.
    """

    def __init__(
        self, tools: Tools, notify: Callable[[], None], seen: Callable[[float], object]
    ) -> None:
        self._tools, self._notify, self._seen = tools, notify, seen
        self._engine: KillableEngine | None = None
        self.progress = Progress()

    def run(self, runnable: Runnable, tests: Tests, cancel: threading.Event) -> None:
        """Measure; what goes wrong becomes the progress's last word."""
        self.progress = Progress(self.progress.number + 1, Stage.LOADING, runnable, tests)
        self._notify()
        stage, said = Stage.FAILED, tuple[str, ...]()
        try:
            said = self._measure(runnable, tests, cancel)
            stage = Stage.STOPPED if cancel.is_set() else Stage.DONE
        except Interrupted:
            stage, said = Stage.STOPPED, ()
        except PitoolError as error:
            said = (error.statement,)
        finally:
            self._set(stage=stage, said=said, result=None)

    def cancel(self) -> None:
        """End the repetition that runs; from any thread, its event is set before."""
        if (engine := self._engine) is not None:
            engine.kill()

    def earlier(self, runnable: Runnable) -> list[Row]:
        """Return what was measured of an artifact before this run, the newest first."""
        bundle = runnable.name if runnable.artifact else None
        wanted = title(bundle, str(runnable.entry), runnable.quantisation)
        with closing(self._tools.history()) as history:
            found = [row for row in history.rows(bundle=bundle) if artifact_name(row) == wanted]
        mine = [row for row in self.progress.rows if artifact_name(row) == wanted]
        while mine and found and found[-1]["run"] == mine[-1]["run"]:
            mine.pop()
            found.pop()
        return found[::-1]

    def _measure(
        self, runnable: Runnable, tests: Tests, cancel: threading.Event
    ) -> tuple[str, ...]:
        """Load, measure and keep; return what is to be said of it."""
        name = self._tools.name()
        recorded = Recorded(_Rows(self, name), self._tools.history(), name)
        try:
            engine = self._tools.load(runnable, tests.context, self._loading(cancel))
            self._engine = engine
            try:
                self._set(stage=Stage.MEASURING)
                about = self._every_test(engine, runnable, tests, recorded, cancel)
            finally:
                self._engine = None
                engine.close()
        finally:
            recorded.end()
        if about is None:
            return ()
        if not cancel.is_set():
            self._tools.learn(recorded.results, about)
        return _said(recorded.results, about)

    def _loading(self, cancel: threading.Event) -> Callable[[float], None]:
        def progress(fraction: float) -> None:
            if cancel.is_set():
                raise Interrupted("the load was stopped")
            if fraction >= self.progress.loaded + 0.02 or fraction >= 1:
                self._set(loaded=fraction)

        return progress

    def _every_test(
        self,
        engine: KillableEngine,
        runnable: Runnable,
        tests: Tests,
        recorded: Recorded,
        cancel: threading.Event,
    ) -> Subject | None:
        """Run the tests until the end or the cancel; None where nothing was measured.

        What is half done then counts too.
        """
        about: Subject | None = None
        for test in tests.workloads:
            result: Result | None = None
            try:
                for result in measure(
                    engine, [test], tests.repetitions, self._tools.look(engine.pid)
                ):
                    self._step(result)
                    if cancel.is_set():
                        break
            except WorkerDied:
                if not cancel.is_set():
                    raise
            finally:
                if result and result.samples_ns:
                    about = self._tools.describe(runnable, engine.info.settings, engine.pid)
                    recorded.add(result, about)
            if cancel.is_set():
                break
            self._set(finished=self.progress.finished + 1, result=None)
        return about

    def _step(self, result: Result) -> None:
        decoding = result.workload.generate and result.samples_ns
        self._seen(result.samples_ts[-1] if decoding else 0.0)
        self._set(result=result)

    def _set(self, **changes: object) -> None:
        self.progress = replace(self.progress, **changes)  # type: ignore[arg-type]
        self._notify()


class _Rows:
    """Shows each row that is kept: a printer of ``pitool.bench.printers``."""

    def __init__(self, benching: Benching, run: str) -> None:
        self._benching, self._run = benching, run

    def add(self, row: Row, /) -> None:
        progress = self._benching.progress
        rows = (*progress.rows, {**row, "run": self._run})
        self._benching.progress = replace(progress, rows=rows)

    def end(self) -> None:
        """Show nothing more."""


def _said(results: Sequence[Result], about: Subject) -> tuple[str, ...]:
    """Return how likely the rates are, and what the board was like."""
    lines = []
    for result in results:
        verdict = plausibility.assess(result, about)
        lines += [f"{result.workload.name}: {line}" for line in (verdict.lines if verdict else ())]
    return (*lines, *conditions.summary(results))

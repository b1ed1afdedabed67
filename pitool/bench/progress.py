"""The progress of benchmarking one artifact, for a screen: events in, one consistent state out.

``BenchRunner.run`` is called in a thread of its own, after the chat's worker has ended: two models
do not fit a small board. Knows no screen.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from enum import Enum

from pitool.bench.artifact import title_of
from pitool.bench.events import (
    EngineReady,
    Event,
    Failed,
    Finished,
    Judged,
    Loading,
    Measured,
    Repetition,
)
from pitool.bench.grid import Grid
from pitool.bench.rows import BenchRow, artifact_name
from pitool.bench.run import REPETITIONS, Result, Workload
from pitool.bench.session import Procedure, Tools, bench
from pitool.catalog.bundles import Runnable
from pitool.errors import PitoolError

LEAST_FRACTION = 0.02
"""A load is shown again when so much more of it is there."""


@dataclass(frozen=True, slots=True)
class TestList:
    """A list of tests that the user chooses by name."""

    __test__ = False  # pytest takes it for one of its own

    name: str
    grid: Grid
    repetitions: int

    @property
    def workloads(self) -> list[Workload]:
        """The tests in order."""
        return self.grid.workloads

    @property
    def words(self) -> str:
        """``standard: pp512, tg128, 5 each``."""
        names = ", ".join(test.name for test in self.workloads)
        return f"{self.name}: {names}, {self.repetitions} each"


QUICK = TestList("quick", Grid(prompts=(128,), generates=(32,)), 2)
STANDARD = TestList("standard", Grid(), REPETITIONS)
DEEP = TestList("deep", Grid(depths=(0, 1024)), 3)
LISTS = (QUICK, STANDARD, DEEP)


class Stage(Enum):
    """What the bench is doing; the value is how it is called on screen."""

    IDLE = "nothing measured yet"
    LOADING = "loading"
    MEASURING = "measuring"
    DONE = "done"
    STOPPED = "stopped, results so far are saved"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class BenchProgress:
    """How far a bench is; replaced as a whole, so always consistent.

    ``number``: of the bench since the start; ``loaded``: fraction; ``finished``: tests; ``result``:
    the test that runs; ``rows``: what is in the history of this run; ``said``: what is to be said
    of them.
    """

    number: int = 0
    stage: Stage = Stage.IDLE
    runnable: Runnable | None = None
    tests: TestList = STANDARD
    loaded: float = 0.0
    finished: int = 0
    result: Result | None = None
    rows: tuple[BenchRow, ...] = ()
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

    def after(self, event: Event) -> BenchProgress:
        """Return what it is after an event; the same where nothing is to be seen of it."""
        match event:
            case Loading(_, fraction):
                far = fraction >= min(self.loaded + LEAST_FRACTION, 1.0)
                return replace(self, loaded=fraction) if far else self
            case EngineReady():
                return replace(self, stage=Stage.MEASURING)
            case Repetition(_, result):
                return replace(self, result=result)
            case Measured(row, run, whole):
                rows = (*self.rows, {**row, "run": run})
                return replace(self, rows=rows, finished=self.finished + whole, result=None)
            case Judged(_, lines):
                return replace(self, said=lines)
            case Failed(_, error):
                return self.failed(error)
            case Finished():
                return self._finished(event)
            case _:
                return self

    def failed(self, error: PitoolError) -> BenchProgress:
        """Return what it is when nothing more can be measured."""
        return replace(self, stage=Stage.FAILED, said=(error.statement,), result=None)

    def _finished(self, end: Finished) -> BenchProgress:
        if self.stage is Stage.FAILED:
            return self
        stage = Stage.STOPPED if end.stopped else Stage.DONE
        return replace(self, stage=stage, said=(*self.said, *end.conditions), result=None)


class BenchRunner:
    """Measures one artifact at a time; ``notify`` is called when there is something to look at.

    ``seen`` is called between repetitions, with the tokens/s of the last if it was a decode.
    ``threads`` are what the user named for every load; None are the usual ones.
    """

    def __init__(
        self,
        tools: Tools,
        notify: Callable[[], None],
        seen: Callable[[float], object],
        threads: int | None = None,
    ) -> None:
        self._tools, self._notify, self._seen, self._threads = tools, notify, seen, threads
        self._kill: Callable[[], None] | None = None
        self.progress = BenchProgress()

    def run(self, runnable: Runnable, tests: TestList, cancel: threading.Event) -> None:
        """Measure; what goes wrong becomes the progress's last word."""
        number = self.progress.number + 1
        self._set(BenchProgress(number, Stage.LOADING, runnable, tests))
        grid = replace(tests.grid, threads=(self._threads,)) if self._threads else tests.grid
        # A buffer of this process for the bandwidth would take the memory that the model needs.
        procedure = Procedure(tests.repetitions, probe_memory=False)
        try:
            for event in bench([runnable], grid, procedure, self._tools, cancel, self._take):
                self._take(event)
        except PitoolError as error:
            self._set(self.progress.failed(error))
        except BaseException:
            self._set(replace(self.progress, stage=Stage.FAILED, result=None))
            raise
        finally:
            self._kill = None

    def cancel(self) -> None:
        """End the repetition that runs; from any thread, its event is set before."""
        if (kill := self._kill) is not None:
            kill()

    def earlier(self, runnable: Runnable) -> list[BenchRow]:
        """Return what was measured of an artifact before this run, the newest first."""
        wanted = title_of(runnable)
        bundle = runnable.name if runnable.artifact else None
        with closing(self._tools.history()) as history:
            found = [row for row in history.rows(bundle=bundle) if artifact_name(row) == wanted]
        mine = [row for row in self.progress.rows if artifact_name(row) == wanted]
        while mine and found and found[-1]["run"] == mine[-1]["run"]:
            mine.pop()
            found.pop()
        return found[::-1]

    def _take(self, event: Event) -> None:
        if isinstance(event, EngineReady):
            self._kill = event.kill
        if isinstance(event, Repetition):
            result = event.result
            decoding = result.workload.generate and result.samples_ns
            self._seen(result.samples_ts[-1] if decoding else 0.0)
        self._set(self.progress.after(event))

    def _set(self, progress: BenchProgress) -> None:
        if progress is not self.progress:
            self.progress = progress
            self._notify()


MakeRunner = Callable[[Callable[[], None], Callable[[float], object]], BenchRunner]
"""Makes a runner that calls ``notify`` and ``seen``."""

"""One benchmark: artifacts are loaded, measured, stored in the history, learnt from and judged.

The only place where that is done: the command and the screen receive events and show them.
Knows neither flags nor a screen. Sensors are read between repetitions, never while one is timed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from pitool.bench import artifact, conditions, learn, plausibility, rows, run
from pitool.bench.artifact import MeasuredArtifact
from pitool.bench.events import (
    Doing,
    EngineReady,
    Event,
    Failed,
    Finished,
    Judged,
    Loading,
    Measured,
    Remark,
    Repetition,
)
from pitool.bench.grid import Grid
from pitool.bench.history import Document, History, open_history
from pitool.bench.modes.base import Measure, OpenEngine, begun
from pitool.bench.run import REPETITIONS, Result, Workload
from pitool.catalog.bundles import Runnable
from pitool.device import activity, probe, tuned
from pitool.device.activity import Look
from pitool.device.detect import detect
from pitool.device.settings import check_memory, settings_for
from pitool.engine import worker
from pitool.engine.base import Engine, Settings
from pitool.errors import Interrupted, PitoolError, UsageError, WorkerDied
from pitool.planning.formats import find_format

# What a mode decodes with.
MODE_CONTEXT = 512


class KillableEngine(Engine, Protocol):
    """An engine that can be ended in the middle of a timed call."""

    def kill(self) -> None:
        """End it at once, from any thread; the call raises ``WorkerDied``."""


OnFraction = Callable[[float], None]
LoadEngine = Callable[[Runnable, Settings, OnFraction], KillableEngine]
"""Starts an engine, blocking; what it is handed gets the fractions loaded."""


def start_worker(runnable: Runnable, settings: Settings, on_fraction: OnFraction) -> KillableEngine:
    """Load an artifact in a process of its own."""
    return worker.start(runnable.format, runnable.entry, settings, on_fraction)


def unchecked(_runnable: Runnable, _settings: Settings) -> None:
    """Check no memory: what the user forces is loaded."""


def run_name() -> str:
    """Return what a run is called in the history: its time."""
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime())


@dataclass(frozen=True, slots=True)
class Tools:
    """What a bench is done with; a demonstration has others.

    ``check`` raises where an artifact does not fit; ``settings`` are the usual ones here, for so
    many tokens of context; ``name`` names each run in the history.
    """

    load: LoadEngine = start_worker
    check: Callable[[Runnable, Settings], object] = check_memory
    settings: Callable[[Runnable, int], Settings] = settings_for
    look: Callable[[int], Callable[[], Look]] = activity.looker
    describe: Callable[[Runnable, Settings, int], MeasuredArtifact] = artifact.describe
    learn: Callable[[Iterable[Result], MeasuredArtifact], object] = learn.keep
    history: Callable[[], History] = open_history
    name: Callable[[], str] = run_name


@dataclass(frozen=True, slots=True)
class Procedure:
    """How each test is measured.

    ``delay``: seconds before each; ``cooldown``: °C that are waited for before each;
    ``probe_memory``: measure the memory's bandwidth first, where it is not known yet.
    """

    repetitions: int = REPETITIONS
    warm_up: bool = True
    delay: float = 0
    cooldown: float | None = None
    probe_memory: bool = True


def bench(
    runnables: Sequence[Runnable],
    grid: Grid,
    procedure: Procedure | None = None,
    tools: Tools | None = None,
    cancel: threading.Event | None = None,
    on_loading: Callable[[Loading], object] = lambda _: None,
) -> Generator[Event]:
    """Measure every test of every artifact; the last event is ``Finished``.

    It is stopped by ``cancel``, which may be set from any thread, or by Ctrl-C: a consumer hands
    one that comes while it prints to ``throw``. What was measured until then is kept, the
    repetitions of half a test too. An artifact that cannot be measured costs only its own rows.
    PitoolError is raised where none can. ``on_loading`` is called while an artifact loads, when
    nothing can be yielded.
    """
    session = _Session(
        grid, procedure or Procedure(), tools or Tools(), cancel or threading.Event(), on_loading
    )
    return session.events(runnables)


@dataclass(frozen=True, slots=True)
class _Load:
    """One load of an artifact; ``usual`` are the settings that it would get without flags."""

    runnable: Runnable
    settings: Settings
    usual: Settings


class _Session:
    def __init__(
        self,
        grid: Grid,
        procedure: Procedure,
        tools: Tools,
        cancel: threading.Event,
        on_loading: Callable[[Loading], object],
    ) -> None:
        self._grid, self._procedure, self._tools = grid, procedure, tools
        self._cancel, self._on_loading = cancel, on_loading
        self._machine = detect()
        self._name = tools.name()
        self._done = self._planned = 0
        self._results: list[Result] = []
        self._failures: list[PitoolError] = []

    def events(self, runnables: Sequence[Runnable]) -> Generator[Event]:
        """Tell everything from the first remark to the end."""
        stopped = False
        with closing(self._tools.history()) as history:
            try:
                yield from self._every_load(runnables, history)
            except (KeyboardInterrupt, Interrupted):
                stopped = True
        seen = tuple(conditions.summary(self._results))
        yield Finished(stopped, self._done, self._planned, tuple(self._failures), seen)

    def _every_load(self, runnables: Sequence[Runnable], history: History) -> Iterator[Event]:
        if self._procedure.cooldown is not None:
            conditions.check_thermometer()
        loads: list[_Load] = []
        for runnable in runnables:
            if said := tuned.words(runnable, self._machine):
                yield Remark(said, runnable)
            usual = self._tools.settings(runnable, self._grid.context)
            every = self._grid.of_format(runnable.format).settings(usual)
            loads += [_Load(runnable, settings, usual) for settings in every]
        self._planned = len(loads) * len(self._grid.workloads)
        yield from self._probe_memory(runnables)
        for load in loads:
            try:
                yield from self._measure(load, history)
            except (Interrupted, UsageError):
                raise
            except PitoolError as error:
                self._failures.append(error)
                yield Failed(load.runnable, error)

    def _probe_memory(self, runnables: Sequence[Runnable]) -> Iterator[Event]:
        """Measure the memory's bandwidth once and keep it: a decode is set against it."""
        decodes = any(test.generate and not test.prompt for test in self._grid.workloads)
        streamed = decodes and any(find_format(runnable.format).streams for runnable in runnables)
        if self._procedure.probe_memory and streamed and probe.find(self._machine) is None:
            yield Doing(f"measuring memory bandwidth for {probe.SECONDS:g} s, only once")
            probe.keep(probe.measure(self._machine))

    def _measure(self, load: _Load, history: History) -> Iterator[Event]:
        """Run every test on one load, then judge them and learn from them."""
        runnable, settings = load.runnable, load.settings
        self._go_on()
        self._tools.check(runnable, settings)  # what is free by then
        yield Loading(runnable)
        results: list[Result] = []
        interruption: BaseException | None = None
        with closing(self._tools.load(runnable, settings, partial(self._told, runnable))) as engine:
            try:
                yield EngineReady(runnable, engine.kill)
                for test in self._grid.workloads:
                    yield from self._test(engine, load, test, history, results)
            except (KeyboardInterrupt, PitoolError) as error:
                interruption = error
            whole = interruption is None
            if results:
                about = self._tools.describe(runnable, settings, engine.pid)
                yield _judged(results, about)
                warm_up = self._procedure.warm_up
                if learn.may_teach(settings, load.usual, warm_up=warm_up, whole=whole):
                    self._tools.learn(results, about)
            if not whole:
                engine.kill()  # it would be waited for until its repetition ends
        if interruption:
            raise interruption

    def _told(self, runnable: Runnable, fraction: float) -> None:
        self._go_on()
        self._on_loading(Loading(runnable, fraction))

    def _test(
        self,
        engine: KillableEngine,
        load: _Load,
        test: Workload,
        history: History,
        results: list[Result],
    ) -> Iterator[Event]:
        """Measure one test; what is half done at an interruption counts too."""
        yield from self._wait()
        result: Result | None = None
        interruption: BaseException | None = None
        try:
            for result in run.measure(
                engine,
                [test],
                self._procedure.repetitions,
                self._tools.look(engine.pid),
                warm_up=self._procedure.warm_up,
            ):
                yield Repetition(load.runnable, result, self._done + 1, self._planned)
                self._go_on()
            self._done += 1
        except WorkerDied as error:
            killed = Interrupted("stopped", "see pitool bench history for the results so far")
            interruption = killed if self._cancel.is_set() else error
        except (KeyboardInterrupt, PitoolError) as error:
            interruption = error
        if result and result.samples_ns:
            results.append(result)
            self._results.append(result)
            about = self._tools.describe(load.runnable, load.settings, engine.pid)
            row = rows.row(result, about)
            try:
                yield Measured(row, self._name, whole=interruption is None)
            finally:
                history.add(row, self._name)
        if interruption:
            raise interruption

    def _wait(self) -> Iterator[Event]:
        if delay := self._procedure.delay:
            yield Doing(f"waiting for {delay:g} s")
            self._cancel.wait(delay)
        if (limit := self._procedure.cooldown) is not None:
            for text in conditions.cooling(limit, self._cancel.wait):
                self._go_on()
                yield Doing(text)
        self._go_on()

    def _go_on(self) -> None:
        if self._cancel.is_set():
            raise Interrupted("stopped", "see pitool bench history for the results so far")


def _judged(results: Sequence[Result], about: MeasuredArtifact) -> Judged:
    lines = []
    for result in results:
        found = plausibility.assess(result, about)
        lines += [f"{result.workload.name}: {line}" for line in (found.lines if found else ())]
    return Judged(rows.footer(about, results[0].info.load_seconds), tuple(lines))


def bench_mode(
    kind: str,
    measure: Measure,
    runnables: Sequence[Runnable],
    tools: Tools | None = None,
) -> Generator[Event]:
    """Measure what a mode measures of every artifact; interrupted and ended like ``bench``.

    ``kind``: its name in the table of modes. A document is kept as far as it came.
    """
    tools = tools or Tools()
    documents: list[Document] = []
    failures: list[PitoolError] = []
    stopped = False
    with closing(tools.history()) as history:
        name = tools.name()
        for runnable in runnables:
            try:
                settings = tools.settings(runnable, MODE_CONTEXT)
                tools.check(runnable, settings)
                document = begun(kind, runnable, settings)
                empty = len(document)
                try:
                    yield from measure(runnable, settings, _opener(tools), document)
                finally:
                    if len(document) > empty:
                        documents.append(document)
                        history.keep(document, name)
            except (KeyboardInterrupt, Interrupted):
                stopped = True
                break
            except PitoolError as error:
                failures.append(error)
                yield Failed(runnable, error)
    yield Finished(stopped, failures=tuple(failures), documents=tuple(documents))


def _opener(tools: Tools) -> OpenEngine:
    def open_engine(
        runnable: Runnable, settings: Settings
    ) -> AbstractContextManager[KillableEngine]:
        return closing(tools.load(runnable, settings, lambda _: None))

    return open_engine

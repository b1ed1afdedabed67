"""One call of ``pitool bench``: every test of every artifact, printed, kept and judged.

An artifact that cannot be measured costs only its own rows, Ctrl-C only what was not measured.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pitool.bench import card, conditions, cooldown, formats, history, learn, plausibility, run
from pitool.bench.grid import Grid
from pitool.bench.printers import PRINTERS
from pitool.bench.subject import Subject, describe
from pitool.device import activity, probe, tuned
from pitool.device.detect import detect
from pitool.device.settings import check_memory, settings_for
from pitool.engine import worker
from pitool.engine.base import Settings
from pitool.errors import Interrupted, PitoolError, UsageError
from pitool.report.progress import StatusLine

if TYPE_CHECKING:
    from pitool.catalog.bundles import Runnable
    from pitool.engine.worker import WorkerEngine

# A script has no weights that memory could be too slow for.
STREAMED = ("gguf", "onnx")


class Session:
    """``options`` are the command's: cooldown, delay, no_warmup, card, force."""

    def __init__(
        self, wanted: Grid, repetitions: int, output: str, options: dict[str, Any]
    ) -> None:
        self._wanted, self._repetitions, self._options = wanted, repetitions, options
        self._status = StatusLine()
        self._machine = detect()
        name = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        printer = PRINTERS[output](self._status.out, wanted.varied)
        self._printer = history.Recorded(printer, history.open_history(), name)
        self._done = self._planned = 0
        self._said: list[str] = []

    def measure(self, subjects: Sequence[Runnable]) -> None:
        """Measure; PitoolError at the end when an artifact could not be."""
        if self._options["cooldown"] is not None:
            cooldown.check()
        loads = [(r, s) for r in subjects for s in self._settings(r)]
        self._planned = len(loads) * len(self._wanted.workloads)
        failures: list[PitoolError] = []
        try:
            self._measure_bandwidth(subjects)
            for runnable, settings in loads:
                try:
                    self._load(runnable, settings)
                except (Interrupted, UsageError):
                    raise
                except PitoolError as error:
                    failures.append(error)
                    self._status.say(f"{_title(runnable)}: {error.sentence}")
        except KeyboardInterrupt:
            kept = "what is above is in the history" if self._printer.rows else "run it again"
            raise Interrupted(
                f"stopped after {self._done} of {self._planned} tests", kept
            ) from None
        finally:
            self._end()
        if failures:
            raise failures[0]

    def _settings(self, runnable: Runnable) -> list[Settings]:
        if known := tuned.find(runnable, self._machine):
            self._status.say(f"{_title(runnable)}: {known.words}")
        base = settings_for(runnable, self._wanted.context, self._machine)
        wanted = self._wanted.for_onnx() if runnable.format == "onnx" else self._wanted
        return list(wanted.settings(base))

    def _measure_bandwidth(self, subjects: Sequence[Runnable]) -> None:
        """Measure the memory once and keep it: a decode is set against it."""
        decodes = any(test.generate and not test.prompt for test in self._wanted.workloads)
        streamed = decodes and any(s.format in STREAMED for s in subjects)
        if streamed and probe.find(self._machine) is None:
            self._status.show(f"reading memory for {probe.SECONDS:.0f} s, once")
            probe.keep(probe.measure(self._machine))

    def _load(self, runnable: Runnable, settings: Settings) -> None:
        if not self._options["force"]:
            check_memory(runnable, settings)  # what is free by then
        self._status.show(f"loading {_title(runnable)}")
        with worker.start(runnable.format, runnable.entry, settings) as engine:
            measured: list[run.Result] = []
            try:
                self._tests(engine, runnable, settings, measured)
            finally:
                subject = describe(runnable, settings, engine.pid)
                self._judge(subject, engine.info.load_seconds, measured)
            # A prediction is of the usual settings, and of a model that is warm.
            usual = settings_for(runnable, self._wanted.context, self._machine)
            if settings == usual and not self._options["no_warmup"]:
                learn.keep(measured, subject)

    def _tests(
        self,
        engine: WorkerEngine,
        runnable: Runnable,
        settings: Settings,
        measured: list[run.Result],
    ) -> None:
        """Run every test on one load; what is half done at an interruption counts too."""
        look = activity.looker(engine.pid)
        for test in self._wanted.workloads:
            self._wait()
            result: run.Result | None = None
            try:
                for result in run.measure(
                    engine,
                    [test],
                    self._repetitions,
                    look,
                    warm_up=not self._options["no_warmup"],
                ):
                    self._progress(runnable, result)
                self._done += 1
            finally:
                if result and result.samples_ns:
                    measured.append(result)
                    self._printer.add(result, describe(runnable, settings, engine.pid))

    def _wait(self) -> None:
        if delay := self._options["delay"]:
            self._status.show(f"waiting for {delay} s")
            time.sleep(delay)
        if (limit := self._options["cooldown"]) is not None:
            cooldown.wait(limit, self._status.show)

    def _progress(self, runnable: Runnable, result: run.Result) -> None:
        done = len(result.samples_ns)
        state = f"{done}/{self._repetitions}" if done else "warm-up"
        if not done and self._options["no_warmup"]:
            state = "begins"
        self._status.show(
            f"[{self._done + 1}/{self._planned}] {_title(runnable)} {result.workload.name} {state}"
        )

    def _judge(self, subject: Subject, load_seconds: float, measured: list[run.Result]) -> None:
        """Keep for the end what is to be said of one load."""
        if measured:
            self._said.append(formats.footer(subject, load_seconds))
        for result in measured:
            verdict = plausibility.assess(result, subject)
            said = verdict.lines if verdict else []
            self._said += [f"  {result.workload.name}: {line}" for line in said]

    def _end(self) -> None:
        """Print what is left, and what was seen of the board."""
        self._printer.end()
        self._status.clear()
        for line in (*self._said, *conditions.summary(self._printer.results)):
            self._status.say(line)
        path = self._options["card"]
        if path and self._printer.rows:
            card.write(path, self._printer.rows)
            self._status.say(f"card: {path}")


def _title(runnable: Runnable) -> str:
    bundle = runnable.name if runnable.artifact else None
    return formats.title(bundle, str(runnable.entry), runnable.quantisation)

"""Finds the fastest settings of an artifact on this machine, one after the other.

Each setting in turn tries its candidates while the others stay at the best so far (coordinate
descent): a sum of tests, where an exhaustive sweep is their product. Every candidate has one short
test; the one that looks fastest is measured again in turn with the best so far, so that a machine
that warms up is fair to both, and its gain must exceed the noise. One model is loaded at a time:
a board may have no room for two.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Literal

from pitool.bench.comparison import Ratio, compare_rates
from pitool.bench.conditions import conditions
from pitool.bench.events import Doing
from pitool.bench.kv_loss import MOST, kv_loss
from pitool.bench.run import Workload, measure, random_tokens
from pitool.catalog.bundles import Runnable
from pitool.device import activity, tuned
from pitool.device.detect import Machine
from pitool.device.settings import check_memory, untuned
from pitool.device.tuned import PassCost, Tuned
from pitool.engine import worker
from pitool.engine.base import POLLING, Engine, Settings
from pitool.engine.speculation.pass_costs import SIZES
from pitool.errors import PitoolError
from pitool.planning.formats import format_of_engine

TunePhase = Literal["prefill", "decode", "deep decode"]
OpenWith = Callable[[Settings], AbstractContextManager[Engine]]
"""Loads the artifact with settings."""

Rates = dict[TunePhase, list[float]]
"""Tokens/s of each repetition."""

WORKLOADS: dict[TunePhase, Workload] = {
    "prefill": Workload(prompt=256),
    "decode": Workload(generate=32),
    # Attention and the KV cache are what differs here: at an empty context they cost nothing.
    "deep decode": Workload(generate=16, depth=384),
}
ROUNDS = 3
REPETITIONS = 2
LEAST_GAIN = 1.02
# Several candidates are tried, and each has another chance to win by luck.
CONFIDENCE = 0.98
CONTEXT = 512
# Of passes of several tokens: what is in the KV cache before, and how often each is timed.
PASS_DEPTH, PASS_ROUNDS = 128, 5
# Share of all tests, from which on it is said under what circumstances they ran.
DISTURBED_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Axis:
    """One setting, what it may be, and by which phases it is judged: all of them must not lose.

    ``lossy``: it changes answers, so that what it costs is measured too.
    """

    name: str
    candidates: tuple[Any, ...]
    phases: tuple[TunePhase, ...]
    lossy: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate beside the best so far: the ratio of each phase's rates.

    ``in_turn``: whether both were measured in turn, without which nothing wins. ``failed`` says
    why a candidate could not be loaded. ``loss``: mean KL divergence in nats, where answers change.
    """

    axis: str
    value: Any
    ratios: dict[TunePhase, Ratio]
    in_turn: bool = False
    won: bool = False
    failed: str = ""
    loss: float | None = None

    @property
    def gain(self) -> float:
        """How much faster the candidate looks, over all phases; 0 if it could not be loaded."""
        return prod(ratio.value for ratio in self.ratios.values()) if self.ratios else 0.0


@dataclass(frozen=True, slots=True)
class Tuning:
    """What all trials gave, whole or as far as they came, and whether it was kept.

    ``disturbed``: the share of the tests with each problem that was not a passing one.
    """

    result: Tuned
    trials: tuple[Trial, ...]
    kept: bool
    disturbed: dict[str, float]
    stopped: bool


WAITING = ("polling", "pinned", "priority")
"""How threads wait, and where they run: the settings of a process rather than of a model."""
KV_AXIS = Axis("kv_type", ("q8_0", "q4_0"), ("prefill", "deep decode"), lossy=True)


def axes(base: Settings, cores: int, engine: str, *, exact: bool = False) -> list[Axis]:
    """Return what is worth trying with an engine, the most rewarding first.

    onnxruntime has one pool of threads and none of llama.cpp's other settings. ``Settings.batch``
    only bounds the micro-batch. A KV cache of fewer bits changes answers: it is kept where it costs
    little (``kv_loss.MOST``), and not tried when they are to stay ``exact``; a larger type than the
    planned one is never tried.
    """
    counts = tuple(range(1, cores + 1))
    threads = [Axis("decode_threads", counts, ("decode",))]
    if not format_of_engine(engine).tunable:
        return threads
    return [
        *threads,
        Axis("prefill_threads", counts, ("prefill",)),
        Axis("micro_batch", (64, 128, 256, 512), ("prefill",)),
        Axis("flash_attention", ("on", "off"), ("prefill", "deep decode")),
        *([] if exact or base.kv_type != "f16" else [KV_AXIS]),
        Axis("repack", (not base.repack,), ("prefill", "decode")),
        Axis("load_mode", ("mmap", "read"), ("prefill", "decode")),
        Axis("polling", tuple(value for value in POLLING if value != base.polling), ("decode",)),
        Axis("pinned", (True,), ("prefill", "decode")),
        Axis("priority", ("high",), ("prefill", "decode")),
    ]


def tune(
    base: Settings, plan: Sequence[Axis], open_engine: OpenWith
) -> Iterator[tuple[Trial, Settings]]:
    """Yield each trial with the best settings after it."""
    best = base
    for axis in plan:
        known = _once(best, axis.phases, open_engine)
        faster: list[Trial] = []
        for value in axis.candidates:
            if value == getattr(best, axis.name):
                continue
            trial = _screen(axis, best, value, known, open_engine)
            if trial.gain >= LEAST_GAIN:
                faster.append(trial)
            yield trial, best
        for fast in sorted(faster, key=lambda trial: trial.gain, reverse=True):
            trial = _challenge(axis, best, fast.value, open_engine)
            before, best = best, replace(best, **{axis.name: fast.value}) if trial.won else best
            yield trial, best
            if trial.loss is None or before != best:
                break  # the next one looked slower, and could only win by luck


def _screen(axis: Axis, best: Settings, value: Any, known: Rates, open_engine: OpenWith) -> Trial:
    """Return a short test of a candidate beside what is known of the best so far."""
    try:
        once = _once(replace(best, **{axis.name: value}), axis.phases, open_engine)
    except PitoolError as error:
        return Trial(axis.name, value, {}, failed=error.what)
    ratios = {phase: compare_rates(known[phase], once[phase]) for phase in axis.phases}
    return Trial(axis.name, value, ratios)


def _challenge(axis: Axis, best: Settings, value: Any, open_engine: OpenWith) -> Trial:
    """Return whether a candidate that looked faster is: measured in turn with the best so far."""
    candidate = replace(best, **{axis.name: value})
    try:
        ratios = in_turn(best, candidate, axis.phases, open_engine, least=LEAST_GAIN)
    except PitoolError as error:
        return Trial(axis.name, value, {}, in_turn=True, failed=error.what)
    gains = any(r.low > 1 and r.value >= LEAST_GAIN for r in ratios.values())
    losses = any(r.value <= 1 / LEAST_GAIN for r in ratios.values())
    won = gains and not losses
    loss = kv_loss(best, candidate, open_engine) if won and axis.lossy else None
    won = won and (loss is None or loss <= MOST)
    return Trial(axis.name, value, ratios, in_turn=True, won=won, loss=loss)


def in_turn(
    old: Settings,
    new: Settings,
    phases: Sequence[TunePhase],
    open_engine: OpenWith,
    *,
    least: float = 0.0,
) -> dict[TunePhase, Ratio]:
    """Return how much faster ``new`` is in each phase, measured A B, B A, A B.

    It ends after a turn that leaves every phase below ``least``: such a one will not win.
    """
    samples: tuple[Rates, Rates] = ({p: [] for p in phases}, {p: [] for p in phases})
    for turn in range(ROUNDS):
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            found = _once((old, new)[side], phases, open_engine)
            for phase in phases:
                samples[side][phase] += found[phase]
        ratios = {
            phase: compare_rates(samples[0][phase], samples[1][phase], CONFIDENCE)
            for phase in phases
        }
        if max(ratio.value for ratio in ratios.values()) < least:
            break
    return ratios


def _once(settings: Settings, phases: Sequence[TunePhase], open_engine: OpenWith) -> Rates:
    """Load with settings and return the tokens/s of each repetition."""
    found: Rates = {}
    with open_engine(settings) as engine:
        for phase in phases:
            *_, last = measure(engine, [WORKLOADS[phase]], REPETITIONS)
            found[phase] = list(last.samples_ts)
    return found


def pass_costs(settings: Settings, open_engine: OpenWith) -> tuple[PassCost, ...]:
    """Return what passes of several tokens cost, 1 for one token; none where nothing is guessed.

    The least of several times each, in turn, since all that disturbs takes longer.
    """
    with open_engine(settings) as engine:
        measure = getattr(engine, "time_passes", None)
        if not settings.guesses or engine.info.no_guesses or measure is None:
            return ()
        engine.time_forward(random_tokens(engine)(PASS_DEPTH), one_by_one=False)
        sizes = (1, *SIZES)
        if not measure(sizes):  # which warms up
            return ()
        rounds = [measure(sizes) for _ in range(PASS_ROUNDS)]
    least = [min(times) for times in zip(*rounds, strict=True)]
    return tuple(
        PassCost(size, round(seconds / least[0], 3))
        for size, seconds in zip(sizes, least, strict=True)
    )


def tune_here(
    runnable: Runnable,
    machine: Machine,
    *,
    exact: bool = False,
    keep: bool = True,
    check: Callable[[Runnable, Settings], object] = check_memory,
) -> Generator[Trial | Doing | Tuning]:
    """Yield each trial of an artifact on this machine; the last one is the ``Tuning``.

    The winner is measured against the defaults once more and kept for whoever loads it. Ctrl-C
    ends the trials and keeps what has won so far.
    """
    base = untuned(runnable, CONTEXT, machine)
    check(runnable, base)
    watch = _Watch()

    def open_engine(settings: Settings) -> AbstractContextManager[Engine]:
        return watch.over(worker.start(runnable.format, runnable.entry, settings))

    best, trials, gains = base, list[Trial](), dict[TunePhase, float]()
    stopped = False
    plan = axes(base, machine.physical_cores, runnable.format, exact=exact)
    try:
        for trial, so_far in tune(base, plan, open_engine):
            best = so_far
            trials.append(trial)
            yield trial
        if best != base:
            yield Doing("comparing the best settings with the defaults")
            ratios = in_turn(base, best, ("prefill", "decode"), open_engine)
            gains = {phase: round(ratio.value, 3) for phase, ratio in ratios.items()}
    except KeyboardInterrupt:
        stopped = True
    costs: tuple[PassCost, ...] = ()
    if not stopped:
        try:
            yield Doing("measuring what passes of several tokens cost")
            costs = pass_costs(best, open_engine)
        except KeyboardInterrupt:
            stopped = True
    changes = tuned.changes(base, best)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    result = Tuned(changes, today, gains.get("prefill", 1.0), gains.get("decode", 1.0), costs)
    # Where nothing has won yet, what an earlier tuning found is better than nothing.
    kept = keep and bool(changes or not stopped)
    if kept:
        tuned.keep(result, runnable, machine)
    yield Tuning(result, tuple(trials), kept, watch.shares, stopped)


@dataclass(slots=True)
class _Watch:
    """Notes what else went on while engines worked."""

    problems: Counter[str] = field(default_factory=Counter)
    tests: int = 0

    @contextmanager
    def over(self, engine: worker.WorkerEngine) -> Iterator[Engine]:
        """Give an engine, which is closed afterwards."""
        with engine:
            look = activity.looker(engine.pid)
            before = look()
            yield engine
            (condition,) = conditions([before, look()])
            self.problems.update(condition.problems)
            self.tests += 1

    @property
    def shares(self) -> dict[str, float]:
        """The share of the tests with each problem, where it is not a passing one."""
        shares = {name: count / self.tests for name, count in self.problems.items()}
        return {name: share for name, share in shares.items() if share >= DISTURBED_SHARE}

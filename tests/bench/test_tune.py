"""Tuning on machines whose best settings are known, and what is kept of it."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from pitool.bench import kv_loss, tune
from pitool.catalog.model_argument import find_runnable
from pitool.chat.status import Phase, Status
from pitool.cli.commands import cli
from pitool.cli.loading import loading_words
from pitool.device import tuned
from pitool.device.activity import Look
from pitool.device.detect import detect
from pitool.device.sensors import Reading
from pitool.device.settings import settings_for, untuned
from pitool.engine.base import Engine, Settings
from pitool.engine.scripted import Scripted
from pitool.errors import BadInput, Interrupted, PitoolError
from pitool.tui.widgets.conversation import greeting

BASE = Settings(context=512, decode_threads=4, prefill_threads=4)
CORES = 4


def decode_rate(s: Settings) -> float:
    """Two threads are best, as on a Pi 5; flash attention helps a little, no repacking hurts."""
    rate = {1: 6.0, 2: 10.0, 3: 9.5, 4: 8.0}[s.decode_threads]
    return rate * (1.05 if s.flash_attention == "on" else 1.0) * (1.0 if s.repack else 0.7)


def prefill_rate(s: Settings) -> float:
    """Every thread helps, and a micro-batch of 128 fits the cache."""
    rate = 20.0 * s.prefill_threads * {64: 0.8, 128: 1.2, 256: 1.1, 512: 1.0}[s.micro_batch]
    return rate * (1.0 if s.repack else 0.5)


class Board:
    """Opens engines whose rates come from the settings, with noise; counts what was timed."""

    def __init__(self, noise: float = 0.01) -> None:
        self.noise, self.random, self.opened, self.timed = noise, random.Random(7), 0, 0
        self.loaded = 0

    @contextmanager
    def open(self, settings: Settings) -> Iterator[Engine]:
        self.opened += 1
        self.loaded += 1
        assert self.loaded == 1, "two models in memory at once"
        board = self

        class Noisy(Scripted):
            def time_forward(self, ids: Sequence[int], *, one_by_one: bool) -> float:
                board.timed += 1
                seconds = super().time_forward(ids, one_by_one=one_by_one)
                return seconds * max(0.5, board.random.gauss(1.0, board.noise))

        yield Noisy(
            prefill_rate=prefill_rate(settings),
            decode_rate=decode_rate(settings),
            settings=settings,
        )
        self.loaded -= 1


def run_tune(board: Board) -> tuple[Settings, list[tune.Trial]]:
    steps = list(tune.tune(BASE, tune.axes(BASE, CORES, "gguf"), board.open))
    return steps[-1][1], [trial for trial, _ in steps]


def exhaustive(board: Board) -> tuple[Settings, float, float]:
    """Return the sweep's winner and its best rates, each combination loaded and timed once."""
    plan = [a for a in tune.axes(BASE, CORES, "gguf") if a.name not in tune.WAITING]
    values = [dict.fromkeys((getattr(BASE, a.name), *a.candidates)) for a in plan]
    names = [a.name for a in plan]
    every = [replace(BASE, **dict(zip(names, c, strict=True))) for c in itertools.product(*values)]
    for settings in every:
        with board.open(settings) as engine:
            for workload in tune.WORKLOADS.values():
                engine.time_forward([0] * workload.tokens, one_by_one=bool(workload.generate))
    best = max(every, key=lambda s: prefill_rate(s) * decode_rate(s))
    return best, prefill_rate(best), decode_rate(best)


def test_it_finds_the_best_of_an_exhaustive_sweep_in_a_tenth_of_its_loads() -> None:
    board, sweep = Board(), Board()
    best, _ = run_tune(board)
    _, prefill, decode = exhaustive(sweep)
    assert prefill_rate(best) >= prefill * 0.98
    assert decode_rate(best) >= decode * 0.98
    assert board.opened <= sweep.opened / 10


@pytest.mark.thorough
def test_noise_alone_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "decode_rate", lambda _s: 10.0)
    monkeypatch.setitem(globals(), "prefill_rate", lambda _s: 80.0)
    changed = 0
    for seed in range(10):
        board = Board(noise=0.03)
        board.random.seed(seed)
        best, _ = run_tune(board)
        changed += len(tuned.changes(BASE, best))
    assert changed <= 3  # of 150 chances


def test_a_candidate_that_cannot_be_loaded_is_passed_over() -> None:
    board = Board()

    @contextmanager
    def picky(settings: Settings) -> Iterator[Engine]:
        if settings.flash_attention == "on":
            raise PitoolError("no flash attention here", "")
        with board.open(settings) as engine:
            yield engine

    axis = tune.Axis("flash_attention", ("on",), ("decode",))
    ((trial, best),) = tune.tune(BASE, [axis], picky)
    assert trial.failed == "no flash attention here"
    assert best == BASE


def test_onnx_has_one_pool_of_threads() -> None:
    assert [axis.name for axis in tune.axes(BASE, CORES, "onnx")] == ["decode_threads"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PITOOL_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("home")
def test_what_is_kept_is_loaded_by_itself_and_said(bundle: Callable[..., Path]) -> None:
    runnable, machine = find_runnable(bundle()), detect()
    result = tuned.Tuned({"decode_threads": 1, "micro_batch": 64}, "2026-11-24", 1.0, 1.2)
    tuned.keep(result, runnable, machine)
    assert tuned.find(runnable, machine) == result
    settings = settings_for(runnable)
    assert (settings.decode_threads, settings.micro_batch) == (1, 64)
    assert settings == replace(untuned(runnable, None, machine), decode_threads=1, micro_batch=64)
    done = CliRunner().invoke(cli, ["run", str(bundle("other")), "hi"], standalone_mode=False)
    assert "tuned" in done.stderr  # the same artifact by its hash, in another bundle
    words = greeting(Status(Phase.UNLOADED, runnable), loading_words).plain
    assert "settings tuned on 2026-11-24: decode threads 1, micro batch 64" in words
    other = tuned.Tuned({}, "2026-11-25", 1.0, 1.0)
    tuned.keep(other, runnable, machine)
    assert tuned.find(runnable, machine) == other


def test_a_broken_file_of_hints_stops_nobody(home: Path, bundle: Callable[..., Path]) -> None:
    runnable = find_runnable(bundle())
    for text in ("{", '{"a": {"changes": {"context": 1}}}', "[]", json.dumps({"a": 1})):
        (home / tuned.FILE_NAME).write_text(text)
        assert tuned.find(runnable, detect()) is None
        with pytest.raises(BadInput):
            tuned.keep(tuned.Tuned({}, "", 1.0, 1.0), runnable, detect())
        assert (home / tuned.FILE_NAME).read_text() == text


@pytest.mark.thorough
def test_the_command_reports_what_it_kept(home: Path, bundle: Callable[..., Path]) -> None:
    done = CliRunner().invoke(cli, ["tune", str(bundle()), "--json"], standalone_mode=False)
    assert done.exception is None
    document = json.loads(done.stdout)
    assert document["kept"] is True
    assert document["changes"] == {}  # a script is as fast with any settings
    assert (home / tuned.FILE_NAME).is_file()


@pytest.mark.thorough
@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(("busy", "said"), [(1.0, True), (0.0, False)])
def test_it_says_when_others_took_the_cpus(
    busy: float, said: bool, bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count()

    def looker(_pid: int) -> Callable[[], Look]:
        def look() -> Look:
            now = next(clock)
            return Look(now, Reading(None, None, None), busy_seconds=now * busy, own_seconds=0.0)

        return look

    monkeypatch.setattr("pitool.device.activity.looker", looker)
    done = CliRunner().invoke(cli, ["tune", str(bundle()), "--json"], standalone_mode=False)
    assert done.exception is None
    assert ("other processes at work during 100% of the tests" in done.stderr) is said
    assert json.loads(done.stdout)["disturbed"] == (
        {"other processes at work": 1.0} if said else {}
    )


class Lossy(Scripted):
    """Is faster with fewer bits of the KV cache, and gives other logits the fewer there are."""

    def __init__(self, settings: Settings) -> None:
        fast = {"f16": 1.0, "q8_0": 1.5, "q4_0": 2.0}[settings.kv_type]
        super().__init__(prefill_rate=100 * fast, decode_rate=10 * fast, settings=settings)
        self._off = {"f16": 0.0, "q8_0": 0.01, "q4_0": 3.0}[settings.kv_type]

    def logits(self, ids: Sequence[int]) -> Any:
        table = np.random.default_rng(0).normal(0, 2, (len(ids), 256)).astype(np.float32)
        other = np.random.default_rng(1).normal(0, 1, table.shape).astype(np.float32)
        return table + self._off * other


def test_a_cache_that_changes_answers_too_much_gives_way_to_one_that_does_not() -> None:
    @contextmanager
    def opened(settings: Settings) -> Iterator[Engine]:
        yield Lossy(settings)

    steps = list(tune.tune(BASE, [tune.KV_AXIS], opened))
    assert steps[-1][1].kv_type == "q8_0"
    judged = {trial.value: trial for trial, _ in steps if trial.in_turn}
    assert (judged["q4_0"].won, judged["q8_0"].won) == (False, True)
    # Of two normal tables by hand: a shift of 0.01 is about half its square in nats.
    assert judged["q8_0"].loss == pytest.approx(0.5 * 0.01**2, rel=0.5)
    assert judged["q4_0"].loss is not None and judged["q4_0"].loss > kv_loss.MOST


def test_exact_answers_leave_the_kv_cache_alone() -> None:
    def names(base: Settings, *, exact: bool = False) -> set[str]:
        return {axis.name for axis in tune.axes(base, CORES, "gguf", exact=exact)}

    assert "kv_type" in names(BASE)
    assert "kv_type" not in names(BASE, exact=True)
    # A larger cache than the planned one may not fit.
    assert "kv_type" not in names(replace(BASE, kv_type="q8_0"))


@pytest.mark.parametrize("wins", [1, 0])
def test_ctrl_c_keeps_what_has_won(
    wins: int, home: Path, bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    won = tune.Trial("decode_threads", 1, {}, won=True)

    def stopped(base: Settings, *_: object) -> Iterator[tuple[tune.Trial, Settings]]:
        for _count in range(wins):
            yield won, replace(base, decode_threads=base.decode_threads + 1)
        raise KeyboardInterrupt

    monkeypatch.setattr(tune, "tune", stopped)
    done = CliRunner().invoke(cli, ["tune", str(bundle()), "--json"], standalone_mode=False)
    assert isinstance(done.exception, Interrupted)
    assert json.loads(done.stdout)["kept"] is bool(wins)
    assert (home / tuned.FILE_NAME).is_file() is bool(wins)


def test_the_costs_of_passes_are_measured_and_kept(home: Path, bundle: Callable[..., Path]) -> None:
    class Counting(Scripted):
        def time_passes(self, sizes: Sequence[int]) -> list[float]:
            self.round = getattr(self, "round", 0) + 1
            disturbed = 0.2 * (self.round % 2)  # every other round
            return [0.5 + 0.1 * size + disturbed for size in sizes]

    @contextmanager
    def opened(settings: Settings) -> Iterator[Engine]:
        yield Counting(settings=settings)

    costs = tune.pass_costs(replace(BASE, guesses=15), opened)
    assert {c.tokens: c.cost for c in costs} == {
        n: pytest.approx((0.5 + 0.1 * n) / 0.6, abs=1e-3) for n in (1, 2, 3, 4, 8, 12, 16)
    }
    assert tune.pass_costs(BASE, opened) == ()
    runnable, machine = find_runnable(bundle("m")), detect()
    tuned.keep(tuned.Tuned({}, "2026-11-29", 1.0, 1.0, costs), runnable, machine)
    assert dict(settings_for(runnable).costs)[8] == pytest.approx(1.3 / 0.6, abs=1e-3)


@pytest.mark.parametrize("cost", [{"tokens": 4, "cost": 0.0}, {"tokens": 4, "cost": 1e9}, {"x": 1}])
def test_costs_that_cannot_be_are_ignored(
    home: Path, bundle: Callable[..., Path], cost: dict[str, object]
) -> None:
    runnable, machine = find_runnable(bundle("m")), detect()
    entry = {"changes": {}, "date": "", "prefill_gain": 1, "decode_gain": 1, "costs": [cost]}
    (home / tuned.FILE_NAME).write_text(json.dumps({tuned.key(runnable, machine): entry}))
    assert settings_for(runnable).costs == ()

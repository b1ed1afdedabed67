"""How far a bench is and what it says: rows, judgements, earlier runs, what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pitool.bench import events
from pitool.bench.artifact import MeasuredArtifact
from pitool.bench.history import FILE_NAME, History
from pitool.bench.progress import DEEP, LISTS, QUICK, STANDARD, BenchProgress, BenchRunner, Stage
from pitool.bench.rows import test_name as name_of
from pitool.bench.run import Result
from pitool.bench.session import Tools
from pitool.catalog.bundles import Runnable, choose
from pitool.engine.base import Settings
from pitool.engine.scripted import Scripted
from pitool.errors import DoesNotFit, WorkerDied
from pitool.tui import demo, demo_bench


class Dying(Scripted):
    """Its process is killed by the system in the first timed call."""

    def time_forward(self, ids: Any, *, one_by_one: bool) -> float:
        raise WorkerDied("the model process was killed", "load a smaller one")


@pytest.fixture
def runnable(tmp_path: Path) -> Runnable:
    return choose(demo.write_bundles(tmp_path / "bundles")[0], "Q4_K_M")


def tools(folder: Path, engine: Scripted | Exception) -> Tools:
    def load(
        runnable: Runnable, settings: Settings, on_fraction: Callable[[float], None]
    ) -> Scripted:
        if isinstance(engine, Exception):
            raise engine
        return engine

    return replace(demo_bench.tools(folder), load=load)


def history(folder: Path) -> list[dict[str, Any]]:
    with closing(History(folder / FILE_NAME)) as kept:
        return kept.rows()


def measured(runnable: Runnable, made: Tools, rates: list[float] | None = None) -> BenchRunner:
    rates = [] if rates is None else rates
    benching = BenchRunner(made, lambda: None, rates.append)
    benching.run(runnable, QUICK, threading.Event())
    return benching


def test_the_lists_are_llama_benchs_standard_and_a_quick_one() -> None:
    assert [test.name for test in STANDARD.workloads] == ["pp512", "tg128"]
    assert STANDARD.repetitions == 5
    assert [test.name for test in QUICK.workloads] == ["pp128", "tg32"]
    assert DEEP.grid.context == 1024 + 512
    assert len({tests.name for tests in LISTS}) == len(LISTS)


def test_rows_are_kept_and_judged(runnable: Runnable, tmp_path: Path) -> None:
    rates: list[float] = []
    learnt: list[str] = []

    def learn(results: Iterable[Result], about: MeasuredArtifact) -> None:
        learnt.extend(result.workload.name for result in results)

    made = replace(demo_bench.tools(tmp_path), learn=learn)
    progress = measured(runnable, made, rates).progress
    assert progress.stage is Stage.DONE
    assert progress.share == 1.0
    rows = history(tmp_path)
    assert [name_of(row) for row in rows] == ["pp128", "tg32"] == learnt
    assert [round(row["avg_ts"], 1) for row in rows] == [84.3, 7.9]
    assert rows[1]["predicted_ts"] == pytest.approx(8.83, abs=0.01)
    assert {name_of(row) for row in progress.rows} == {"pp128", "tg32"}
    assert any("89% of the prediction" in line for line in progress.said)
    assert any("throttled in 2 of 4 repetitions" in line for line in progress.said)
    # The sensors are asked between repetitions; only a decode has tokens/s.
    assert rates == [0.0, 0.0, 0.0, 0.0, pytest.approx(7.9), pytest.approx(7.9)]


def test_earlier_runs_are_of_this_artifact_and_not_of_this_run(tmp_path: Path) -> None:
    bundle = demo.write_bundles(tmp_path)[0]
    one, other = choose(bundle, "Q4_K_M"), choose(bundle, "Q8_0")
    made = demo_bench.tools(tmp_path)
    benching = measured(one, made)
    assert benching.earlier(one) == []
    benching.run(other, QUICK, threading.Event())
    assert [name_of(row) for row in benching.earlier(one)] == ["tg32", "pp128"]
    benching.run(one, QUICK, threading.Event())
    assert len(benching.earlier(one)) == 2
    assert len(benching.earlier(other)) == 2


def test_what_does_not_fit_is_a_sentence(runnable: Runnable, tmp_path: Path) -> None:
    made = tools(tmp_path, DoesNotFit("2 GB are needed", "take Q4_0"))
    progress = measured(runnable, made).progress
    assert (progress.stage, progress.said) == (Stage.FAILED, ("2 GB are needed; take Q4_0.",))
    assert history(tmp_path) == []


def test_a_worker_that_dies_is_a_sentence(runnable: Runnable, tmp_path: Path) -> None:
    progress = measured(runnable, tools(tmp_path, Dying())).progress
    assert progress.stage is Stage.FAILED
    assert progress.said == ("the model process was killed; load a smaller one.",)


def test_threads_that_the_user_named_are_measured_and_not_learnt(
    runnable: Runnable, tmp_path: Path
) -> None:
    learnt: list[Result] = []
    made = replace(demo_bench.tools(tmp_path), learn=lambda results, _: learnt.extend(results))
    for threads, count in ((1, 0), (4, 2), (None, 2)):
        learnt.clear()
        runner = BenchRunner(made, lambda: None, lambda _: None, threads)
        runner.run(runnable, QUICK, threading.Event())
        assert runner.progress.stage is Stage.DONE
        assert {row["n_threads"] for row in runner.progress.rows} == {threads or 4}
        assert len(learnt) == count


def test_what_is_stopped_says_so_and_teaches_nothing(runnable: Runnable, tmp_path: Path) -> None:
    learnt: list[Result] = []
    cancel = threading.Event()
    made = replace(demo_bench.tools(tmp_path), learn=lambda results, _: learnt.extend(results))
    runner = BenchRunner(made, lambda: None, lambda rate: cancel.set() if rate else None)
    runner.run(runnable, QUICK, cancel)
    assert runner.progress.stage is Stage.STOPPED
    assert [len(row["samples_ns"]) for row in history(tmp_path)] == [2, 1]
    assert learnt == []


def test_a_load_is_shown_in_steps(runnable: Runnable) -> None:
    start = BenchProgress(1, Stage.LOADING, runnable, QUICK)
    seen = [start]
    for thousandth in range(1001):
        seen.append(seen[-1].after(events.Loading(runnable, thousandth / 1000)))
    assert len({progress.loaded for progress in seen}) == 51
    assert seen[-1].loaded == 1.0

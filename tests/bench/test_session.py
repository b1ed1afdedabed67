"""The events of a bench: what is kept, learnt and judged, and what an interruption leaves."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from pitool.bench import conditions, events, session
from pitool.bench.events import Event, handle
from pitool.bench.grid import Grid
from pitool.bench.history import FILE_NAME, History
from pitool.bench.modes import MODES, Flag, find_mode, words
from pitool.bench.modes.base import Mode
from pitool.bench.run import Result, Workload
from pitool.bench.session import Procedure, Tools, bench, bench_mode
from pitool.catalog.bundles import Runnable
from pitool.catalog.model_argument import find_runnable
from pitool.cli import bench_options
from pitool.device.activity import Look
from pitool.device.sensors import Reading
from pitool.engine.base import Settings
from pitool.engine.scripted import Scripted
from pitool.errors import DoesNotFit, PitoolError, WorkerDied

USUAL = Settings(context=640, decode_threads=3, prefill_threads=4)
GRID = Grid(prompts=(8,), generates=(4,))
TWICE = Procedure(2, probe_memory=False)


class Engine(Scripted):
    """Counts its timed calls, calls ``at`` before each, and knows how it ended."""

    def __init__(self, settings: Settings, at: Callable[[int], None]) -> None:
        super().__init__(settings=settings)
        self.at, self.calls, self.closed = at, 0, False

    def time_forward(self, ids: Sequence[int], *, one_by_one: bool) -> float:
        self.calls += 1
        self.at(self.calls)
        return super().time_forward(ids, one_by_one=one_by_one)

    def close(self) -> None:
        self.closed = True

    @property
    def killed(self) -> bool:
        return self._killed.is_set()


class Bench:
    """A board whose engines are scripted: what was loaded, looked at and learnt."""

    def __init__(self, folder: Path, at: Callable[[int], None] = lambda _: None) -> None:
        self.folder, self.at = folder, at
        self.engines: list[Engine] = []
        self.learnt: list[str] = []
        self.looks: list[int] = []
        self.tools = Tools(
            load=self._load,
            check=session.unchecked,
            settings=lambda _, context: USUAL,
            look=lambda _: self._look,
            learn=lambda results, _: self.learnt.extend(r.workload.name for r in results),
            history=lambda: History(folder / FILE_NAME),
            name=lambda: "a run",
        )

    def _load(
        self, runnable: Runnable, settings: Settings, on_fraction: Callable[[float], None]
    ) -> Engine:
        on_fraction(0.5)
        self.engines.append(Engine(settings, self.at))
        return self.engines[-1]

    def _look(self) -> Look:
        self.looks.append(self.engines[-1].calls)
        return Look(0.0, Reading(None, None, None))

    @property
    def kept(self) -> list[tuple[int, int, int]]:
        with closing(History(self.folder / FILE_NAME)) as history:
            rows = history.rows("a run")
        return [(row["n_prompt"], row["n_gen"], len(row["samples_ns"])) for row in rows]


@pytest.fixture
def toy(bundle: Callable[..., Path]) -> Runnable:
    return find_runnable(bundle())


def end(seen: Sequence[Event]) -> events.Finished:
    last = seen[-1]
    assert isinstance(last, events.Finished)
    return last


def kinds(seen: Sequence[Event]) -> list[str]:
    return [type(event).__name__ for event in seen]


def test_the_way_of_one_load_is_told_in_order(toy: Runnable, tmp_path: Path) -> None:
    board = Bench(tmp_path)
    loading: list[events.Loading] = []
    seen = list(bench([toy], GRID, TWICE, board.tools, on_loading=loading.append))
    test = ["Repetition", "Repetition", "Repetition", "Measured"]
    assert kinds(seen) == ["Loading", "EngineReady", *test, *test, "Judged", "Finished"]
    assert [event.fraction for event in loading] == [0.5]
    repetitions = [e for e in seen if isinstance(e, events.Repetition)]
    assert [(e.number, e.planned) for e in repetitions] == [(1, 2)] * 3 + [(2, 2)] * 3
    assert [len(e.result.samples_ns) for e in repetitions] == [0, 1, 2] * 2
    assert (end(seen).stopped, end(seen).done, end(seen).failures) == (False, 2, ())
    assert board.kept == [(8, 0, 2), (0, 4, 2)]
    assert board.engines[0].closed
    assert not board.engines[0].killed


def test_the_board_is_looked_at_between_repetitions_only(toy: Runnable, tmp_path: Path) -> None:
    board = Bench(tmp_path)
    list(bench([toy], Grid(prompts=(8,), generates=(0,)), TWICE, board.tools))
    # After the warm-up and after each repetition, each of which is one timed call.
    assert board.looks == [1, 2, 3]


@pytest.mark.parametrize(
    ("grid", "procedure", "learnt"),
    [
        (GRID, TWICE, ["pp8", "tg4"]),
        (replace(GRID, threads=(1,)), TWICE, []),
        (replace(GRID, threads=(1, 2)), TWICE, []),
        (replace(GRID, micro_batches=(64,)), TWICE, []),
        (replace(GRID, key_types=("q8_0",)), TWICE, []),
        (GRID, replace(TWICE, warm_up=False), []),
    ],
    ids=["usual", "one thread", "two counts of threads", "batch", "kv type", "no warm-up"],
)
def test_only_the_usual_settings_teach(
    grid: Grid, procedure: Procedure, learnt: list[str], toy: Runnable, tmp_path: Path
) -> None:
    board = Bench(tmp_path)
    seen = list(bench([toy], grid, procedure, board.tools))
    assert board.learnt == learnt
    assert not end(seen).stopped


def test_of_several_loads_the_usual_one_teaches(toy: Runnable, tmp_path: Path) -> None:
    board = Bench(tmp_path)
    grid = replace(GRID, micro_batches=(64, USUAL.micro_batch))
    list(bench([toy], grid, TWICE, board.tools))
    assert len(board.engines) == 2
    assert board.learnt == ["pp8", "tg4"]


@pytest.mark.parametrize("call", range(1, 7))
def test_a_cancelled_bench_never_teaches(call: int, toy: Runnable, tmp_path: Path) -> None:
    cancel = threading.Event()
    board = Bench(tmp_path, lambda calls: cancel.set() if calls == call else None)
    seen = list(bench([toy], GRID, TWICE, board.tools, cancel))
    assert end(seen).stopped
    assert board.learnt == []
    assert board.engines[0].closed


def test_what_is_cancelled_between_repetitions_keeps_half_a_test(
    toy: Runnable, tmp_path: Path
) -> None:
    cancel = threading.Event()
    board = Bench(tmp_path, lambda calls: cancel.set() if calls == 5 else None)
    seen = list(bench([toy], GRID, TWICE, board.tools, cancel))
    assert board.kept == [(8, 0, 2), (0, 4, 1)]
    assert [e.whole for e in seen if isinstance(e, events.Measured)] == [True, False]
    assert (end(seen).stopped, end(seen).done, end(seen).planned) == (True, 1, 2)


def test_a_killed_repetition_is_a_stop_and_not_a_fault(toy: Runnable, tmp_path: Path) -> None:
    cancel = threading.Event()
    board = Bench(tmp_path)

    def stop(calls: int) -> None:
        if calls == 3:
            cancel.set()
            board.engines[0].kill()

    board.at = stop
    seen = list(bench([toy], GRID, TWICE, board.tools, cancel))
    assert (end(seen).stopped, end(seen).failures) == (True, ())
    assert board.kept == [(8, 0, 1)]


def test_a_load_is_cancelled(toy: Runnable, tmp_path: Path) -> None:
    cancel = threading.Event()
    board = Bench(tmp_path)
    running = bench([toy], GRID, TWICE, board.tools, cancel)
    assert isinstance(next(running), events.Loading)
    cancel.set()
    assert kinds(list(running)) == ["Finished"]
    assert board.engines == []


@pytest.mark.parametrize("call", [1, 3, 6])
def test_ctrl_c_while_measuring_keeps_what_is_measured(
    call: int, toy: Runnable, tmp_path: Path
) -> None:
    def press(calls: int) -> None:
        if calls == call:
            raise KeyboardInterrupt

    board = Bench(tmp_path, press)
    seen = list(bench([toy], GRID, TWICE, board.tools))
    assert end(seen).stopped
    assert board.kept == {1: [], 3: [(8, 0, 1)], 6: [(8, 0, 2), (0, 4, 1)]}[call]
    assert board.learnt == []
    assert board.engines[0].killed
    assert board.engines[0].closed


def test_ctrl_c_while_printing_is_the_bench_s(toy: Runnable, tmp_path: Path) -> None:
    board = Bench(tmp_path)
    seen: list[Event] = []

    def show(event: Event) -> None:
        seen.append(event)
        if isinstance(event, events.Repetition) and event.result.samples_ns:
            raise KeyboardInterrupt

    handle(bench([toy], GRID, TWICE, board.tools), show)
    assert kinds(seen[-3:]) == ["Measured", "Judged", "Finished"]
    assert end(seen).stopped
    assert board.kept == [(8, 0, 1)]


def test_a_worker_that_dies_costs_only_its_own_rows(
    bundle: Callable[..., Path], tmp_path: Path
) -> None:
    board = Bench(tmp_path)

    def die(calls: int) -> None:
        if len(board.engines) == 1 and calls == 3:
            raise WorkerDied("the model process was killed", "load a smaller one")

    board.at = die
    first, second = find_runnable(bundle("first")), find_runnable(bundle("second"))
    seen = list(bench([first, second], GRID, TWICE, board.tools))
    (failed,) = (event for event in seen if isinstance(event, events.Failed))
    assert (failed.runnable.name, failed.error) == ("first", end(seen).failures[0])
    assert board.kept == [(8, 0, 1), (8, 0, 2), (0, 4, 2)]
    assert not end(seen).stopped
    assert board.learnt == ["pp8", "tg4"]  # of the second alone
    assert [len(board.engines), *(engine.closed for engine in board.engines)] == [2, True, True]


def test_what_does_not_fit_is_not_loaded(toy: Runnable, tmp_path: Path) -> None:
    def check(runnable: Runnable, settings: Settings) -> None:
        raise DoesNotFit("2 GB are needed", "take Q4_0")

    board = Bench(tmp_path)
    seen = list(bench([toy], GRID, TWICE, replace(board.tools, check=check)))
    assert kinds(seen) == ["Failed", "Finished"]
    assert board.engines == []


def test_one_waits_before_each_test(
    toy: Runnable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float | None] = []

    class Clock(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout)
            return False

    readings = iter([70.0, 70.0, 60.0, 54.0, 54.0])
    read = lambda: Reading(next(readings), None, None)  # noqa: E731
    for function in (conditions.check_thermometer, conditions.cooling):
        defaults = function.__defaults__ or ()
        monkeypatch.setattr(function, "__defaults__", (*defaults[:-1], read))
    procedure = replace(TWICE, delay=10, cooldown=55.0)
    seen = list(bench([toy], GRID, procedure, Bench(tmp_path).tools, Clock()))
    texts = [event.text for event in seen if isinstance(event, events.Doing)]
    cooling = ["70 °C, waiting for 55 °C", "60 °C, waiting for 55 °C"]
    assert texts == ["waiting for 10 s", *cooling, "waiting for 10 s"]
    assert waited == [10, 5.0, 5.0, 10]


def test_a_mode_from_outside_is_a_file_and_a_row(
    toy: Runnable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(
        runnable: Runnable,
        settings: Settings,
        open_engine: object,
        document: dict[str, object],
    ) -> Iterator[events.Figures]:
        document["answer"] = 42
        yield events.Figures(("the answer is 42",))
        raise PitoolError("and no more", "be content")

    mode = Mode(
        prepare=lambda _: measure,
        words=lambda document: f"the answer {document['answer']}",
    )
    file = ModuleType("answer")
    file.MODE = mode  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pitool.bench.modes.answer", file)
    monkeypatch.setitem(MODES, "answer", (Flag("--answer", "Find the answer."),))
    board = Bench(tmp_path)
    seen = list(bench_mode("answer", find_mode("answer").prepare({}), [toy, toy], board.tools))
    assert kinds(seen) == ["Figures", "Failed", "Figures", "Failed", "Finished"]
    assert [document["answer"] for document in end(seen).documents] == [42, 42]
    with closing(History(tmp_path / FILE_NAME)) as history:
        kept = history.documents(kind="answer")
    assert [words(document) for document in kept] == ["the answer 42"] * 2

    @click.command()
    @bench_options.mode_options
    def command(**options: object) -> None:
        click.echo(bench_options.mode({**options, "card": None}, "table"))

    for given, said in ((["--answer"], "answer\n"), ([], "\n"), (["--cold"], "cold\n")):
        assert CliRunner().invoke(command, given).stdout == said
    assert "Find the answer." in CliRunner().invoke(command, ["--help"]).stdout


def test_every_result_is_of_the_workload_that_was_asked_for(toy: Runnable, tmp_path: Path) -> None:
    results: list[Result] = []
    board = Bench(tmp_path)
    tools = replace(board.tools, learn=lambda found, _: results.extend(found))
    list(bench([toy], replace(GRID, depths=(0, 16)), TWICE, tools))
    assert [result.workload for result in results] == [
        Workload(prompt=8),
        Workload(generate=4),
        Workload(prompt=8, depth=16),
        Workload(generate=4, depth=16),
    ]

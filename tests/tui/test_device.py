"""The device screen: charts from a tree of files, the doctor, and the log."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Event

import pytest
from click.testing import CliRunner
from textual.command import CommandInput
from textual.widgets import Input

from pitool.catalog.bundles import Runnable
from pitool.chat.status import Phase
from pitool.cli.commands import cli
from pitool.cluster.health import BoardHealth
from pitool.cluster.status import Status
from pitool.device.doctor.examination import examine
from pitool.device.doctor.finding import Finding
from pitool.device.monitor import Monitor, Sample
from pitool.device.sensor_history import SensorHistory, TimedSample
from pitool.errors import PitoolError, UsageError
from pitool.tui import demo
from pitool.tui.app import PitoolApp
from pitool.tui.screens.chat import ChatScreen
from pitool.tui.screens.device import DeviceScreen, Findings
from pitool.tui.widgets.charts import SERIES, chart_lines
from tests.chat.helpers import Halting, Loader, Tracked, settled, until

from .helpers import said, shown, type_in

TREES = Path(__file__).parent.parent / "device" / "fixtures"
UNKNOWN = Sample(0.0, None, None, None, None, None, None, None, None)


def on(
    sensors: SensorHistory,
    runnable: Runnable | None = None,
    load: Loader | None = None,
    boards: Callable[[], list[BoardHealth]] | None = None,
) -> PitoolApp:
    return PitoolApp(
        load=load or Loader(Tracked()),
        bundles=lambda: ([], []),
        memory=lambda _: demo.MEMORY,
        runnable=runnable,
        sensors=sensors,
        boards=boards,
    )


def tree_board(name: str) -> SensorHistory:
    """Return a board that reads a recorded machine and is never examined for real."""
    return SensorHistory(Monitor(TREES / name, lambda _: "throttled=0x50004").look, list)


def test_series_of_a_recorded_machine() -> None:
    board = tree_board("pi5")
    board.take(6.5)
    lines = {s.name: chart_lines(s, list(board.points), 60, 2)[1].plain for s in SERIES}
    sample = board.points[0].sample
    assert lines["temperature"].startswith(f"{sample.temperature_c:.0f} °C")
    assert lines["clock"].startswith(f"{sample.clock_mhz:.0f} MHz")
    assert lines["model memory"].startswith("not loaded")
    assert lines["decode"].startswith("6.5 t/s")


def test_missing_sensors_are_unknown() -> None:
    points = [TimedSample(UNKNOWN, 0.0)]
    values = {s.name: chart_lines(s, points, 60, 2)[1].plain.strip() for s in SERIES}
    assert [values[name] for name in ("temperature", "clock", "CPU", "memory free")] == [
        "unknown"
    ] * 4
    assert values["model memory"] == "not loaded"


def test_bars_are_to_scale_and_hold_their_place_in_time() -> None:
    def at(time: float, celsius: float | None) -> TimedSample:
        return TimedSample(Sample(time, None, None, None, None, celsius, None, None, None), 0.0)

    temperature = SERIES[0]
    lines = chart_lines(temperature, [at(0, None), at(5, 55.0), at(10, 90.0)], 13 + 8 + 2 + 10, 2)
    bars = [line.plain[14:24] for line in lines]
    # Unknown first; then halfway from 20 to 90 °C; then at the top of the scale.
    assert bars == ["         █", "     █████"]


def test_a_chart_marks_where_the_firmware_held_the_board_back() -> None:
    points = list(demo.sensors().points)
    clock = next(s for s in SERIES if s.name == "clock")
    styles = {str(span.style) for span in chart_lines(clock, points, 80, 2)[0].spans}
    assert "$warning" in styles
    cpu = next(s for s in SERIES if s.name == "CPU")
    assert "$warning" not in {str(s.style) for s in chart_lines(cpu, points, 80, 2)[0].spans}


def test_the_log_is_what_monitor_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = demo.sensors().points[0].sample

    def looks() -> Iterator[Sample]:
        for step in range(2):
            yield replace(sample, time=sample.time + step)

    times = looks()
    board = SensorHistory(lambda: next(times), list)
    board.start_log(tmp_path / "log.csv")
    board.take()
    board.take()
    log = board.stop_log()
    assert log is not None
    assert log.lines == 2
    monkeypatch.setattr("pitool.device.monitor.watch", lambda interval: looks())
    printed = CliRunner().invoke(cli, ["monitor", "--csv", "--count", "2"]).stdout
    assert (tmp_path / "log.csv").read_text() == printed
    assert [row["temperature_c"] for row in csv.DictReader(printed.splitlines())] == ["48.0"] * 2


def test_a_log_replaces_nothing_and_ends_when_the_disk_is_full(tmp_path: Path) -> None:
    board = demo.sensors()
    (tmp_path / "there.csv").write_text("mine")
    with pytest.raises(UsageError, match="exists: choose another file"):
        board.start_log(tmp_path / "there.csv")
    with pytest.raises(PitoolError, match="cannot write"):
        board.start_log(tmp_path / "no" / "such.csv")
    assert board.log is None
    if Path("/dev/full").exists():
        full = SensorHistory(lambda: UNKNOWN, list)
        full.start_log(tmp_path / "a.csv")
        assert full.log is not None
        full.log.close()
        full.log._file = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115 - the log closes it
        full.take()
        trouble = full.pop_trouble()
        assert trouble is not None
        assert "No space left" in trouble.what
        assert full.stop_log() is None
        assert full.pop_trouble() is None


def test_a_look_that_is_no_later_counts_once() -> None:
    board = SensorHistory(lambda: UNKNOWN, list)
    board.take()
    board.take()
    assert len(board.points) == 1


async def test_findings_and_their_fixes() -> None:
    app = on(demo.sensors())
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("f8")
        await until(lambda: "1 to fix in 4 checks" in shown(app))
        text = shown(app)
        assert "WARNING throttling: throttled since boot" in text
        assert "tokens/s fall, often to half" in text
        assert "fix: add cooling" in text
        assert "throttled in 20 of 121 samples" in text
        await pilot.press("enter")
        await until(lambda: app.clipboard == demo.FINDINGS[0].fix)
        await pilot.press("end")
        await until(lambda: "llama.cpp: NEON" in shown(app))
        await pilot.press("enter")
        await until(lambda: "nothing to fix here" in shown(app))
        await pilot.press("escape")
        await until(lambda: not isinstance(app.screen, DeviceScreen))


async def test_the_doctor_of_a_recorded_machine_and_again() -> None:
    looks: list[int] = []

    def doctor() -> list[Finding]:
        looks.append(1)
        return examine(TREES / "pi5", lambda _: "", host=False, read_speed=lambda: None)

    app = on(SensorHistory(Monitor(TREES / "pi5").look, doctor))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("f8")
        await until(lambda: "checks" in shown(app))
        assert app.screen.query_one(Findings).option_count == len(doctor())
        await pilot.press("escape", "f8")
        await until(lambda: isinstance(app.screen, DeviceScreen) and "checks" in shown(app))
        assert len(looks) == 2  # kept from before, apart from the test's own
        await pilot.press("e")
        await until(lambda: len(looks) == 3)


async def test_leaving_while_the_doctor_looks() -> None:
    begun, go = Event(), Event()

    def doctor() -> list[Finding]:
        begun.set()
        assert go.wait(120)
        return examine(TREES / "pi5", lambda _: "", host=False, read_speed=lambda: None)

    board = SensorHistory(Monitor(TREES / "pi5").look, doctor)
    app = on(board)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f8")
        await until(lambda: begun.is_set() and "checking" in shown(app))
        await pilot.press("escape")
        await until(lambda: not isinstance(app.screen, DeviceScreen))
        await pilot.pause()  # the screen is taken apart
        go.set()
        await until(lambda: bool(board.findings))
        await pilot.press("f8")
        await until(lambda: isinstance(app.screen, DeviceScreen) and "checks" in shown(app))


async def test_the_doctor_waits_for_the_answer(runnable: Runnable) -> None:
    engine = Halting()
    app = on(demo.sensors(), runnable, Loader(engine))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: app.session.status.phase is Phase.READY)
        await until(lambda: isinstance(app.screen, ChatScreen) and "Ready." in shown(app))
        type_in(app, "Count")
        await pilot.press("enter")
        await until(lambda: "one two" in shown(app))
        await pilot.press("f8")
        await until(lambda: "runs when the model is idle" in shown(app))
        engine.go.set()
        await until(lambda: settled(app.session))
        await until(lambda: "1 to fix" in shown(app))


async def test_log_on_and_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a short name, so that no message is wrapped in it
    board = demo.sensors()
    app = on(board)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("f8")
        await until(lambda: "to fix" in shown(app))
        await pilot.press("l")
        await until(lambda: app.screen.query(Input))
        app.screen.query_one(Input).value = "a.csv"
        await pilot.press("enter")
        await until(lambda: "logging to" in shown(app))
        board.points.clear()  # so that the last look is a new one
        await app._sense()
        await pilot.press("l")
        await until(lambda: "has 1 line" in shown(app))
        assert "logging to" not in shown(app)
        assert len((tmp_path / "a.csv").read_text().splitlines()) == 2
        await pilot.press("l")
        await until(lambda: app.screen.query(Input))
        app.screen.query_one(Input).value = "a.csv"
        await pilot.press("enter")
        refused = "a.csv already exists; choose another file."
        await until(lambda: refused in said(app))


async def test_a_key_opens_nothing_above_a_question(tmp_path: Path) -> None:
    app = on(demo.sensors())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f8")
        await until(lambda: "to fix" in shown(app))
        await pilot.press("l")
        await until(lambda: app.screen.query(Input))
        question = app.screen
        await pilot.press("f8", "f5")
        assert app.screen is question


async def test_the_decode_of_an_answer_that_is_over_is_drawn(runnable: Runnable) -> None:
    board = SensorHistory(looks(), list)
    app = on(board, runnable)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: isinstance(app.screen, ChatScreen) and "Ready." in shown(app))
        type_in(app, "Hi")
        await pilot.press("enter")
        await until(lambda: "Hello from" in shown(app) and settled(app.session))
        await until(lambda: board.points[-1].rate)
        await app._sense()
        assert [point.rate for point in board.points][-2:] == [pytest.approx(10.0), 0.0]


async def test_sensors_rest_while_an_answer_is_written(runnable: Runnable) -> None:
    engine = Halting()
    look = looks()
    board = SensorHistory(lambda: replace(look(), temperature_c=51.0), list)
    app = on(board, runnable, Loader(engine))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: isinstance(app.screen, ChatScreen) and "Ready." in shown(app))
        type_in(app, "Count")
        await pilot.press("enter")
        await until(lambda: "one two" in shown(app))
        await until(lambda: "before" in shown(app).splitlines()[0])
        app._sensed, seen = 0.0, len(board.points)
        await app._tick()
        assert len(board.points) == seen
        board.watched = True
        await app._tick()
        assert len(board.points) == seen + 1
        await until(lambda: "before" not in shown(app).splitlines()[0])
        board.watched = False
        engine.go.set()
        await until(lambda: len(board.points) == seen + 2 and settled(app.session))


def looks() -> Callable[[], Sample]:
    """Return what looks at a second later each time."""
    times = count(1)
    return lambda: replace(UNKNOWN, time=float(next(times)))


async def test_by_command_and_palette(runnable: Runnable) -> None:
    app = on(demo.sensors(), runnable)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: isinstance(app.screen, ChatScreen) and "Ready." in shown(app))
        type_in(app, "/device")
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, DeviceScreen))
        await pilot.press("ctrl+p")
        await until(lambda: isinstance(app.focused, CommandInput))
        await pilot.press(*"device")
        await until(lambda: "Device" in shown(app))


async def test_resize_gives_the_findings_room() -> None:
    app = on(demo.sensors())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("f8")
        await until(lambda: "to fix" in shown(app))
        await pilot.resize_terminal(60, 16)
        await until(lambda: "1 to fix" in shown(app) and "FAULT" not in shown(app))
        await until(lambda: "WARNING throttling" in shown(app))
        assert "60 °C" in shown(app)


async def test_the_boards_of_a_cluster_are_shown_with_what_is_wrong_with_them() -> None:
    hot = Status("1", "1", "Pi 5", "pi5", 4, mem_total=8 * 10**9, mem_available=2 * 10**9,
                 temperature_c=84.6, throttled=("throttled",), client=True, restarts=2)  # fmt: skip
    boards = [BoardHealth("pi@attic", hot), BoardHealth("pi@cellar", None)]
    app = on(demo.sensors(), boards=lambda: boards)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("f8")
        await until(lambda: "pi@cellar does not answer" in shown(app))
        assert "pi@attic: 85 °C · 2.00 of 8.00 GB free · holds layers · throttled" in shown(app)
        assert "restarted 2 times" in shown(app)


async def test_without_a_cluster_no_room_is_taken_for_boards() -> None:
    app = on(demo.sensors())
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("f8")
        await until(lambda: isinstance(app.screen, DeviceScreen))
        assert not app.screen.query_one("#boards").display

"""The board around a repetition, from trees of /proc and /sys and a fake vcgencmd."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pitool.bench import conditions
from pitool.bench.run import Result, Workload, measure
from pitool.device import activity, power, sensors
from pitool.device.activity import Look
from pitool.device.sensors import Reading, Throttled
from pitool.errors import MissingPart
from tests.bench.conftest import Recorder

PID = 77
TICK = 100
HOT = Reading(84.5, 1500.0, Throttled(0xE0008))


def tree(root: Path, *, busy: int, own: int, faults: int, swapped: int) -> None:
    files = {
        "proc/stat": f"cpu  {busy} 0 0 500 0 0 0 0 0 0\ncpu0 1 2 3\n",
        f"proc/{PID}/stat": f"{PID} (py (x) y) S 1 1 1 0 -1 0 9 9 {faults} 0 {own} 0 0 0 20 0 9 0",
        "proc/vmstat": f"nr_free_pages 1\npswpin {swapped}\npswpout 3\n",
        "sys/class/thermal/thermal_zone0/temp": "61250\n",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture(autouse=True)
def ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda _name: TICK)


def between(before: Look, after: Look) -> conditions.Condition:
    (found,) = conditions.conditions([before, after])
    return found


def test_counters_between_two_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 12.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    look = activity.looker(PID, tmp_path)
    tree(tmp_path, busy=1000, own=400, faults=5, swapped=7)
    before = look()
    tree(tmp_path, busy=1500, own=800, faults=6, swapped=47)
    found = between(before, look())
    assert found.others == 0.5  # 5 s of CPU in 2 s, 4 of them the worker's own
    assert (found.swap_ins, found.major_faults) == (40, 1)
    assert found.temperature_after == 61.25
    assert found.throttled_now is None
    assert found.problems == ("other processes at work", "swapping", "read from disk")


def test_what_cannot_be_read_is_unknown_and_no_problem(tmp_path: Path) -> None:
    look = activity.looker(PID, tmp_path)
    found = between(look(), look())
    assert found.others is None
    assert found.swap_ins is None
    assert found.problems == ()


def test_a_flag_before_or_after_counts_one_since_boot_does_not() -> None:
    cool = Look(0.0, Reading(50.0, 2400.0, Throttled(0xE0000)))
    hot = Look(1.0, HOT)
    assert between(cool, cool).problems == ()
    assert between(cool, cool).throttled_since_boot == (
        "frequency capped",
        "throttled",
        "soft temperature limit",
    )
    assert between(cool, hot).problems == ("soft temperature limit",)
    # Cool before and after, but the firmware remembers what happened in between.
    fresh = Look(0.0, Reading(50.0, 2400.0, Throttled(0)))
    assert between(fresh, cool).throttled_now == (
        "frequency capped",
        "throttled",
        "soft temperature limit",
    )
    assert between(hot, cool).problems == ("soft temperature limit",)


FIXTURES = Path(__file__).parents[1] / "device" / "fixtures"


@pytest.mark.parametrize("board", ["pi3", "pi4", "pi5"])
@pytest.mark.parametrize(
    ("bits", "problems"),
    [("0x0", ()), ("0x50000", ()), ("0x50005", ("under-voltage", "throttled"))],
)
def test_recorded_boards_with_a_fake_vcgencmd(
    board: str, bits: str, problems: tuple[str, ...]
) -> None:
    look = activity.looker(PID, FIXTURES / board, lambda _: f"throttled={bits}")
    found = between(look(), look())
    assert found.problems == problems
    assert found.temperature_after is not None
    assert 30 < found.temperature_after < 90
    assert found.clock_after is not None
    assert 600 <= found.clock_after <= 2400


@pytest.mark.parametrize("board", ["pi3", "pi4", "pi5"])
def test_without_vcgencmd_throttling_is_what_the_tree_tells(board: str) -> None:
    def missing(_: list[str]) -> str:
        raise FileNotFoundError

    look = activity.looker(PID, FIXTURES / board, missing)
    found = between(look(), look())
    known = sensors.read(FIXTURES / board, missing).throttled
    assert found.throttled_now == (known.now if known else None)


def results(looks: list[Look]) -> list[Result]:
    return [
        list(measure(Recorder(), [Workload(prompt=8)], len(looks) - 1, iter(looks).__next__))[-1]
    ]


def test_the_summary_says_in_words_what_is_wrong() -> None:
    cool = Look(0.0, Reading(50.0, 2400.0, Throttled(0)))
    hot = Look(1.0, Reading(86.0, 1500.0, Throttled(0x6)))
    lines = conditions.summary(results([cool, cool, hot]))
    assert lines[0].startswith("frequency capped in 1 of 2 repetitions (pp8): ")
    assert lines[1].startswith("throttled in 1 of 2 repetitions (pp8): the board was too hot")
    assert lines[2] == "hottest 86 °C"


def test_a_quiet_board_gives_no_complaint() -> None:
    cool = Look(0.0, Reading(50.0, 2400.0, Throttled(0x10000)), 9.0, 8.0, 0, 0)
    later = replace(cool, seconds=1.0, busy_seconds=10.0, own_seconds=9.0)
    assert conditions.summary(results([cool, later])) == [
        "hottest 50 °C",
        "since boot, but not in these repetitions: under-voltage",
    ]


def test_what_the_board_cannot_tell_is_called_unknown() -> None:
    def missing(_: list[str]) -> str:
        raise FileNotFoundError

    look = activity.looker(PID, FIXTURES / "pi3", missing)
    found = conditions.conditions([look(), look()])
    # The driver of a Pi 3 tells the voltage and nothing else.
    assert conditions.unknowns(found)[:1] == ["throttling"]
    bare = Look(0.0, Reading(None, None, None))
    assert conditions.unknowns(conditions.conditions([bare, bare])) == [
        "temperature",
        "clock",
        "throttling",
        "under-voltage",
        "load of other processes",
        "swapping",
    ]


VCGENCMD = """#!/bin/sh
case $1 in
get_throttled) echo throttled={bits} ;;
pmic_read_adc) {pmic} ;;
esac
"""
RAILS = (
    "printf ' VDD_CORE_A current(7)=2.0A\\n VDD_CORE_V volt(15)=0.8V\\n EXT5V_V volt(24)=5.1V\\n'"
)


@pytest.mark.parametrize(
    ("board", "bits", "pmic", "problems", "watts"),
    [
        ("pi3", "0x50005", "exit 255", ("under-voltage", "throttled"), None),
        ("pi4", "0x80008", "exit 255", ("soft temperature limit",), None),
        ("pi5", "0x0", RAILS, (), 1.6),
        ("pi5", "0x20002", RAILS, ("frequency capped",), 1.6),
    ],
)
def test_vcgencmd_as_a_program(
    board: str,
    bits: str,
    pmic: str,
    problems: tuple[str, ...],
    watts: float | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = tmp_path / "vcgencmd"
    program.write_text(VCGENCMD.format(bits=bits, pmic=pmic))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    look = activity.looker(PID, FIXTURES / board, sensors.run_command)
    assert between(look(), look()).problems == problems
    if watts is None:
        with pytest.raises(MissingPart):
            power.onboard(FIXTURES / board)
    else:
        assert power.onboard(FIXTURES / board).read() == pytest.approx(watts)

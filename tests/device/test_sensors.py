"""Temperature, clock and throttling, from recorded trees and scripted commands."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pitool.device import sensors
from pitool.device.sensors import Reading, Throttled

FIXTURES = Path(__file__).parent / "fixtures"


def answers(text: str) -> sensors.Run:
    def run(command: list[str]) -> str:
        assert command == ["vcgencmd", "get_throttled"]
        return text

    return run


def fails(error: Exception) -> sensors.Run:
    def run(command: list[str]) -> str:
        raise error

    return run


def test_bits_are_decoded_now_and_since_boot() -> None:
    throttled = Throttled(0xD0005)
    assert throttled.now == ("under-voltage", "throttled")
    assert throttled.since_boot == ("under-voltage", "throttled", "soft temperature limit")


@pytest.mark.parametrize(
    ("bit", "flag"),
    enumerate(["under-voltage", "frequency capped", "throttled", "soft temperature limit"]),
)
def test_each_bit_has_its_flag(bit: int, flag: str) -> None:
    assert Throttled(1 << bit) == Throttled(1 << bit, known=0xF000F)
    assert Throttled(1 << bit).now == (flag,)
    assert Throttled(1 << bit).since_boot == ()
    assert Throttled(1 << bit + 16).now == ()
    assert Throttled(1 << bit + 16).since_boot == (flag,)


def test_bits_that_have_no_flag_are_passed_over() -> None:
    assert Throttled(0x100_0010).now == ()
    assert Throttled(0x100_0010).since_boot == ()


def test_vcgencmd_is_asked_first() -> None:
    reading = sensors.read(FIXTURES / "pi4", answers("throttled=0x50005\n"))
    assert reading == Reading(54.53, 1800.0, Throttled(0x50005))


def test_a_quiet_board_is_known_to_be_quiet() -> None:
    reading = sensors.read(FIXTURES / "pi5", answers("throttled=0x0\n"))
    assert reading.throttled == Throttled(0)
    assert reading.throttled.now == reading.throttled.since_boot == ()


def test_the_firmware_file_is_hexadecimal() -> None:
    reading = sensors.read(FIXTURES / "pi4")
    assert reading.throttled == Throttled(0x50000)
    assert reading.throttled.since_boot == ("under-voltage", "throttled")


def test_the_firmware_file_may_lie_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "sys/devices/platform/axi/axi:firmware@1/get_throttled"
    path.parent.mkdir(parents=True)
    path.write_text("0x20002\n")
    assert sensors.read(tmp_path).throttled == Throttled(0x20002)


def test_the_voltage_alarm_tells_of_under_voltage_only() -> None:
    reading = sensors.read(FIXTURES / "pi3")
    assert reading == Reading(61.224, 1200.0, Throttled(0x1, known=0x1))


def test_without_an_alarm_under_voltage_is_known_to_be_absent(tmp_path: Path) -> None:
    hwmon = tmp_path / "sys/class/hwmon/hwmon3"
    hwmon.mkdir(parents=True)
    (hwmon / "name").write_text("rpi_volt\n")
    (hwmon / "in0_lcrit_alarm").write_text("0\n")
    assert sensors.read(tmp_path).throttled == Throttled(0, known=0x1)


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(None, id="not asked"),
        pytest.param(fails(FileNotFoundError("vcgencmd")), id="not installed"),
        pytest.param(fails(PermissionError("vcgencmd")), id="not allowed"),
        pytest.param(fails(subprocess.CalledProcessError(255, "vcgencmd")), id="fails"),
        pytest.param(fails(subprocess.TimeoutExpired("vcgencmd", 1)), id="hangs"),
        pytest.param(answers(""), id="says nothing"),
        pytest.param(answers("VCHI initialization failed"), id="says something else"),
        pytest.param(answers("throttled=unknown"), id="says no number"),
        pytest.param(answers("temp=0x1"), id="answers another question"),
    ],
)
def test_missing_is_unknown_and_never_zero(run: sensors.Run | None) -> None:
    assert sensors.read(FIXTURES / "pi5", run).throttled is None


def test_an_empty_tree_is_unknown(tmp_path: Path) -> None:
    assert sensors.read(tmp_path) == Reading(None, None, None)


def test_files_without_a_number_are_unknown(tmp_path: Path) -> None:
    for path in (
        "sys/class/thermal/thermal_zone0/temp",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq",
        "sys/devices/platform/soc/soc:firmware/get_throttled",
    ):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("<unknown>\n")
    assert sensors.read(tmp_path) == Reading(None, None, None)


def test_this_machine_is_read_without_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, "throttled=0x8\n", "")

    monkeypatch.setattr(subprocess, "run", run)
    assert sensors.read().throttled == Throttled(0x8)
    assert asked == [["vcgencmd", "get_throttled"]]

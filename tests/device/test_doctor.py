"""Every finding from trees of /proc and /sys: there where it holds, with its fix, only there."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from pitool.catalog import manifest, versions
from pitool.catalog.manifest import Artifact, Manifest, MemoryLine, Source
from pitool.cli.commands import cli
from pitool.device.doctor import disk, examination
from pitool.device.doctor.finding import SEVERITIES, Finding

FIXTURES = Path(__file__).parent / "fixtures"
TODAY = datetime.date(2026, 11, 24)
CPU = "sys/devices/system/cpu/cpu0/cpufreq"


def healthy(command: list[str]) -> str:
    return "throttled=0x0" if command[0] == "vcgencmd" else "NEON ARM_FMA DOTPROD"


@pytest.fixture
def pi5(tmp_path: Path) -> Path:
    root = tmp_path / "pi5"
    shutil.copytree(FIXTURES / "pi5", root)
    return root


def write(root: Path, name: str, data: str | bytes) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def examine(
    root: Path,
    run: Callable[[list[str]], str] = healthy,
    today: datetime.date = TODAY,
    speed: float | None = None,
) -> dict[str, Finding]:
    found = examination.examine(root, run, today, host=False, read_speed=lambda: speed)
    return {f.check: f for f in found}


def test_a_healthy_board_has_nothing_worse_than_notes(pi5: Path) -> None:
    found = examine(pi5)
    assert {f.severity for f in found.values()} <= {"ok", "note"}
    assert found["board"].found.startswith("Raspberry Pi 5")
    assert found["llama.cpp"].severity == "ok"
    assert found["throttling"].found == "none since boot"


def test_every_finding_that_is_not_ok_has_a_cost_and_a_fix(pi5: Path) -> None:
    write(pi5, f"{CPU}/scaling_governor", "powersave")
    found = examine(pi5, today=datetime.date(1970, 1, 2))
    for finding in found.values():
        assert bool(finding.cost and finding.fix) == (finding.severity != "ok")


# What is written into the tree -> the check, its severity, and a word of the fix.
CASES: list[tuple[str, str | bytes, str, str, str]] = [
    (f"{CPU}/scaling_governor", "powersave\n", "governor", "warning", "ondemand"),
    (f"{CPU}/scaling_governor", "ondemand\n", "governor", "ok", ""),
    ("sys/class/thermal/thermal_zone0/temp", "84000", "temperature", "warning", "fan"),
    (
        "proc/device-tree/chosen/power/max_current",
        (3000).to_bytes(4, "big"),
        "power supply",
        "warning",
        "27 W",
    ),
    (
        "proc/device-tree/chosen/power/max_current",
        (5000).to_bytes(4, "big"),
        "power supply",
        "ok",
        "",
    ),
    (
        "proc/device-tree/chosen/bootloader/build-timestamp",
        (1_700_000_000).to_bytes(4, "big"),
        "bootloader",
        "warning",
        "rpi-eeprom-update",
    ),
    (
        "proc/device-tree/chosen/bootloader/build-timestamp",
        (1_760_000_000).to_bytes(4, "big"),
        "bootloader",
        "ok",
        "",
    ),
    ("sys/class/thermal/cooling_device0/type", "pwm-fan\n", "cooling", "ok", ""),
    ("sys/class/thermal/cooling_device0/type", "cpufreq\n", "cooling", "note", "Active Cooler"),
    ("proc/mounts", "/dev/mmcblk0p2 / ext4 rw 0 0\n", "storage", "note", "NVMe"),
    ("proc/mounts", "/dev/nvme0n1p2 / ext4 rw 0 0\n", "storage", "ok", ""),
]


@pytest.mark.parametrize(("name", "data", "check", "severity", "fix"), CASES)
def test_what_a_file_says(
    pi5: Path, name: str, data: str | bytes, check: str, severity: str, fix: str
) -> None:
    write(pi5, name, data)
    found = examine(pi5)[check]
    assert found.severity == severity
    assert fix in found.fix


def test_a_clock_that_is_held_down(pi5: Path) -> None:
    write(pi5, f"{CPU}/cpuinfo_max_freq", "2400000")
    write(pi5, f"{CPU}/scaling_max_freq", "1500000")
    found = examine(pi5)["clock"]
    assert (found.severity, found.found) == ("warning", "limited to 1500 of 2400 MHz")
    assert "2400000" in found.fix


@pytest.mark.parametrize(
    ("bits", "severity", "word"),
    [
        ("0x0", "ok", ""),
        ("0x50000", "warning", "power supply"),
        ("0x50005", "fault", "power supply"),
        ("0x4", "fault", "cooling"),
    ],
)
def test_throttling_now_is_worse_than_before(
    pi5: Path, bits: str, severity: str, word: str
) -> None:
    found = examine(pi5, lambda c: f"throttled={bits}" if c[0] == "vcgencmd" else healthy(c))
    assert found["throttling"].severity == severity
    assert word in found["throttling"].fix


def test_a_runtime_without_dotprod_on_a_cpu_that_has_it(pi5: Path) -> None:
    found = examine(pi5, lambda c: "throttled=0x0" if c[0] == "vcgencmd" else "NEON ARM_FMA")
    assert found["llama.cpp"].severity == "warning"
    # A Pi 4 has none, so nothing is missing there.
    found = examine(FIXTURES / "pi4", lambda c: "NEON ARM_FMA")
    assert found["llama.cpp"].severity == "ok"


def test_a_runtime_that_dies_is_a_fault_and_not_the_end_of_the_doctor(pi5: Path) -> None:
    def dies(command: list[str]) -> str:
        raise subprocess.CalledProcessError(-4, command)

    found = examine(pi5, dies)["llama.cpp"]
    assert (found.severity, found.found) == ("fault", "built for a newer CPU")


def test_onnxruntime_that_does_not_load(pi5: Path) -> None:
    def dies(command: list[str]) -> str:
        if "import onnxruntime" in command:
            raise subprocess.CalledProcessError(1, command)
        return healthy(command)

    found = examine(pi5, dies)
    assert found["onnxruntime"].severity == "warning"
    assert found["llama.cpp"].severity == "ok"


def test_another_llama_cpp_than_the_engine_is_made_for(
    pi5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = versions.pinned("llama-cpp-python")
    assert wanted
    assert examine(pi5)["versions"].severity == "ok"
    monkeypatch.setattr(versions, "installed", lambda _: "0.2.90")
    found = examine(pi5)["versions"]
    assert found.severity == "fault"
    assert wanted in found.cost


def test_cores_that_a_model_may_not_use(pi5: Path) -> None:
    assert examine(pi5)["threads"].severity == "ok"
    cpuinfo = pi5 / "proc/cpuinfo"
    first = cpuinfo.read_text().partition("\n\n")[0]
    write(pi5, "proc/cpuinfo", f"{first}\n")
    found = examine(pi5)["threads"]
    assert (found.severity, found.cost) == ("warning", "prefill runs at 25% of its full speed")


@pytest.mark.parametrize(
    ("device", "speed", "severity", "words"),
    [
        ("mmcblk0p2", 40e6, "note", "50.0 s"),
        ("mmcblk0p2", None, "note", "half a minute"),
        ("nvme0n1p2", 800e6, "ok", ""),
        ("sda2", 30e6, "note", "66.7 s"),
    ],
)
def test_the_disk_is_judged_by_its_speed(
    pi5: Path, device: str, speed: float | None, severity: str, words: str
) -> None:
    write(pi5, "proc/mounts", f"/dev/{device} / ext4 rw 0 0\n")
    found = examine(pi5, speed=speed)["storage"]
    assert found.severity == severity
    assert words in found.cost
    assert ("MB/s" in found.found) == (speed is not None)


def test_reading_goes_past_the_page_cache_or_is_not_measured(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(disk.LEAST_BYTES - 1))
    assert disk.read_speed(path) is None
    path.write_bytes(bytes(3 * disk.LEAST_BYTES))
    speed = disk.read_speed(path)  # None on a file system without O_DIRECT
    assert speed is None or speed > 0


def keep_bundle(home: Path, needed: int) -> None:
    folder = home / "bundles" / "mine"
    folder.mkdir(parents=True)
    (folder / "m.gguf").write_bytes(b"x")
    entry, lines = manifest.file_entry(folder / "m.gguf", folder), (MemoryLine("weights", needed),)
    artifact = Artifact("gguf", "Q4_0", (entry,), "llama", 10, 512, 4.5, lines, ())
    created = "2026-11-01T00:00:00Z"
    made = Manifest("m", Source("m", None, ()), "8gb", None, created, {}, (artifact,))
    manifest.write(folder, made)


# The recorded Pi 5 has MemTotal 8,245,024 KiB, and its margin is a twentieth of that; after a boot
# the table has 220 MiB of it in use. Free MiB, needed MiB -> severity, and a word of the fix.
@pytest.mark.parametrize(
    ("free", "needed", "severity", "fix"),
    [
        (3000, 2500, "ok", ""),
        (3000, 2900, "note", "close other programs"),
        (3000, 3001, "warning", "close other programs"),
        (3000, 9000, "warning", "smaller"),
        (7600, 7599, "note", "smaller"),
    ],
)
def test_memory_is_judged_by_the_models_that_lie_here(
    pi5: Path, private_home: Path, free: int, needed: int, severity: str, fix: str
) -> None:
    meminfo = pi5 / "proc/meminfo"
    text = re.sub(r"MemAvailable: .*", f"MemAvailable: {free * 1024} kB", meminfo.read_text())
    meminfo.write_text(text)
    assert examine(pi5)["memory"].severity == "ok"
    keep_bundle(private_home, needed * 2**20)
    found = examine(pi5)["memory"]
    assert found.severity == severity
    assert fix in found.fix
    assert ("mine Q4_0" in found.found) == (severity != "ok")


def test_the_clock_of_a_board_that_woke_up_in_the_past(pi5: Path) -> None:
    assert examine(pi5, today=datetime.date(2024, 7, 4))["time"].severity == "warning"


def test_the_worst_comes_first(pi5: Path) -> None:
    write(pi5, f"{CPU}/scaling_governor", "powersave")
    order = [
        f.severity for f in examination.examine(pi5, lambda _: "throttled=0x4", TODAY, host=False)
    ]
    assert order == sorted(order, key=SEVERITIES.index, reverse=True)
    assert order[0] == "fault"


@pytest.mark.parametrize("board", ["zero2w", "pi3", "pi4", "pi5", "unknown_arm"])
def test_every_recorded_board_can_be_examined(board: str) -> None:
    found = examine(FIXTURES / board)
    assert found["userland"].severity == "ok"
    assert ("note" if board == "unknown_arm" else "ok") == found["board"].severity


@pytest.mark.parametrize("kind", ["--host", "--board"])
def test_the_command_is_one_document_and_an_exit_code(kind: str) -> None:
    done = CliRunner().invoke(cli, ["doctor", kind, "--json"])
    document = json.loads(done.stdout)
    assert (done.exit_code == 1) == (document["worst"] in ("warning", "fault"))
    checks = {finding["check"] for finding in document["findings"]}
    assert ("converter" in checks) == (kind == "--host")


def test_the_text_fits_80_columns_but_for_fixes_that_are_copied() -> None:
    lines = CliRunner().invoke(cli, ["doctor", "--board"]).stdout.splitlines()
    assert lines
    assert max(len(line) for line in lines if "fix: " not in line) <= 80

"""Samples over time, from trees that change between them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pitool.cli.commands import cli
from pitool.device import monitor

STATUS = "Name:\tpython\nVmRSS:\t  204800 kB\n"


def tree(root: Path, busy: int, idle: int) -> None:
    files = {
        "proc/stat": f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\n",
        "proc/meminfo": "MemAvailable: 1000 kB\nSwapTotal: 500 kB\nSwapFree: 200 kB\n",
        "proc/42/cmdline": "python\0-m\0pitool.engine.worker_main\0",
        "proc/42/status": STATUS,
        "proc/43/cmdline": "python\0-m\0other\0",
        "proc/43/status": STATUS,
        "sys/class/thermal/thermal_zone0/temp": "50000",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_sample_is_what_changed_and_what_is(tmp_path: Path) -> None:
    tree(tmp_path, 100, 100)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        tree(tmp_path, 100 + 30 * len(slept), 100 + 10 * len(slept))

    samples = monitor.watch(2.0, tmp_path, lambda _: "throttled=0x50004", sleep)
    first = next(samples)
    assert next(samples).cpu == 0.75
    assert (first.cpu, first.temperature_c) == (0.75, 50.0)
    assert first.available_bytes == 1000 * 1024
    assert first.swap_used_bytes == 300 * 1024
    assert first.worker_bytes == 204800 * 1024
    assert first.throttled_now == ("throttled",)
    assert first.to_row()["throttled_since_boot"] == "under-voltage+throttled"
    assert slept == [2.0, 2.0]


def test_nothing_known_is_none(tmp_path: Path) -> None:
    sample = next(monitor.watch(9.0, tmp_path, None, lambda _: None))
    values = {v for k, v in sample.to_row().items() if k != "time"}
    assert values == {None}


def test_an_interval_that_would_cost_speed_is_lengthened(tmp_path: Path) -> None:
    slept: list[float] = []
    next(monitor.watch(0.01, tmp_path, None, slept.append))
    assert slept == [monitor.SHORTEST_SECONDS]


@pytest.mark.thorough
@pytest.mark.parametrize("flag", ["--csv", "--json", None])
def test_the_command(flag: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    words = ["monitor", "--count", "2", *([flag] if flag else [])]
    done = CliRunner().invoke(cli, words, standalone_mode=False)
    assert done.exception is None
    lines = done.stdout.splitlines()
    if flag == "--csv":
        assert len(list(csv.DictReader(lines))) == 2
    elif flag == "--json":
        assert all("available_bytes" in json.loads(line) for line in lines)
    else:
        assert len(lines) == 2
        assert max(map(len, lines)) <= 80

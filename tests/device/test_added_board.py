"""A board that is one more table in boards.toml: it is known, measured and examined by its data."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pitool.catalog import tables
from pitool.catalog.boards import boards
from pitool.device import power, sensors
from pitool.device.detect import detect
from pitool.device.doctor.examination import examine
from pitool.device.sensors import Throttled

ROW = """
[acme9]
name = "Acme Nine"
compatible = ["acme,nine"]
revision_types = []
soc = "A9"
cpu = "Cortex-A78"
cores = 4
clock_mhz = 3000
features = ["neon", "crc", "fp16", "dotprod"]
page_kib = 4
decode_threads = 4
bandwidth_gbs = 20.0
bandwidth_all_gbs = 20.0
prefill_error = 0.5
decode_error = 0.5
prefill_gflops = 300.0
kernels = "dotprod"
cache_mib = 4.0
ram = [{ tier = "8gb", mem_total_mib = 8049 }]
throttle_c = 70.0
fan = "the Acme fan"
supply = { amperes = 3.0, name = "the Acme supply" }
bootloader = { since = "2030-01-01", decode_gain = 0.5 }

[acme9.sensors]
temperature = "sys/acme/heat"
clock = "sys/acme/clock"
throttled = ["acmectl", "flags"]
rails = ["acmectl", "rails"]

[acme9.sources]
"""
FILES: dict[str, str | bytes] = {
    "proc/device-tree/compatible": "acme,nine\0",
    "proc/meminfo": "MemTotal: 8245024 kB\nMemAvailable: 7000000 kB\n",
    "sys/acme/heat": "71000\n",
    "sys/acme/clock": "3000000\n",
    "proc/device-tree/chosen/power/max_current": (2000).to_bytes(4, "big"),
    "proc/device-tree/chosen/bootloader/build-timestamp": (1_700_000_000).to_bytes(4, "big"),
}


def run(command: list[str]) -> str:
    answers = {
        "flags": "throttled=0x4",
        "rails": "X_A current(0)=2.0A\nX_V volt(1)=1.5V",
    }
    return answers[command[1]] if command[0] == "acmectl" else "NEON DOTPROD"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    recipes = tmp_path / "recipes"
    shutil.copytree(tables.recipes_folder(), recipes)
    with (recipes / "boards.toml").open("a") as file:
        file.write(ROW)
    monkeypatch.setattr(tables, "recipes_folder", lambda: recipes)
    boards.cache_clear()
    tree = tmp_path / "tree"
    for name, data in FILES.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    yield tree
    boards.cache_clear()


def test_its_sensors_are_where_the_table_says(root: Path) -> None:
    assert detect(root).board_id == "acme9"
    assert sensors.read(root, run) == sensors.Reading(71.0, 3000.0, Throttled(0x4))
    assert power.onboard(root, run).read() == 3.0


def test_it_is_examined_by_what_the_table_says(root: Path) -> None:
    today = datetime.date(2031, 1, 1)
    found = {f.check: f for f in examine(root, run, today, host=False, read_speed=lambda: None)}
    assert found["board"].severity == "ok"
    assert found["temperature"].cost == "the firmware lowers the clock above 70 °C"
    assert found["cooling"].fix.startswith("add the Acme fan")
    assert found["power supply"].found == "supplies 2 A, the board needs 3 A"
    assert found["power supply"].fix == "use the Acme supply"
    assert "50% slower than with a version from 2030-01" in found["bootloader"].cost

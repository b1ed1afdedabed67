"""Measures how fast this machine reads memory, and keeps the figure in pitool's home.

A decode is bound by it; the boards' table holds what other boards of the kind were measured at.
"""

from __future__ import annotations

import datetime
import json
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pitool.catalog import reading, tables
from pitool.catalog.bundles import home
from pitool.catalog.files import write_atomically
from pitool.device.detect import Machine
from pitool.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

FILE_NAME = "probe.json"
SECONDS = 5.0
LARGEST_BUFFER = 256 * 1024 * 1024
AVAILABLE_SHARE = 8


@dataclass(frozen=True, slots=True)
class Probe:
    """``read_gbs``: median of all passes in 1e9 bytes/s, all cores reading; ``date``: ISO 8601."""

    machine: str
    read_gbs: float
    passes: int
    buffer_bytes: int
    date: str


def measure(machine: Machine, seconds: float = SECONDS) -> Probe:
    """Return the rate at which all cores together read a buffer that no cache holds."""
    import numpy as np

    size = min(LARGEST_BUFFER, (machine.mem_available or LARGEST_BUFFER) // AVAILABLE_SHARE)
    cores = max(machine.physical_cores, 1)
    parts = np.array_split(np.ones(max(size // 4, cores), np.float32), cores)
    count = sum(part.nbytes for part in parts)
    rates = [count / taken / 1e9 for taken in _passes(parts, seconds)]
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return Probe(key(machine), round(statistics.median(rates), 2), len(rates), count, today)


def _passes(parts: list[np.ndarray], seconds: float) -> Iterator[float]:
    """Yield the seconds of one reading after another; numpy lets the threads run at once."""
    import numpy as np

    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(np.max, parts))
        end = time.perf_counter() + seconds
        begun = time.perf_counter()
        while True:
            list(pool.map(np.max, parts))
            now = time.perf_counter()
            yield now - begun
            if now >= end:
                return
            begun = now


def key(machine: Machine) -> str:
    """Return what a probe holds for: the board and the cores that may be used."""
    return f"{machine.board_id or machine.board_name}/{machine.cores}"


def keep(probe: Probe, path: Path | None = None) -> Path:
    """Write the probe, whole or not at all; return the file."""
    path = path or home() / FILE_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, f"{json.dumps(asdict(probe), indent=2)}\n".encode())
    return path


def find(machine: Machine, path: Path | None = None) -> Probe | None:
    """Return the probe of this machine; None where there is none, or none that can be read."""
    path = path or home() / FILE_NAME
    try:
        probe = tables.build(Probe, reading.read_json(path, "delete it"), path.name)
    except BadInput:
        return None
    return probe if probe.machine == key(machine) and probe.read_gbs > 0 else None

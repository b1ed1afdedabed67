"""One look at a machine between two measurements: sensors, and what else it is doing.

The counters only grow: two looks say what happened between them. Missing is None, which means
unknown, never zero.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pitool.device import files, sensors
from pitool.device.sensors import Reading


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at ``seconds`` of a clock that only runs forward.

    ``busy_seconds``: CPU time of all processes since boot; ``own_seconds`` and ``major_faults``:
    of the process that is measured; ``swap_ins``: pages read back from swap since boot.
    """

    seconds: float
    reading: Reading
    busy_seconds: float | None = None
    own_seconds: float | None = None
    major_faults: int | None = None
    swap_ins: int | None = None


def looker(pid: int, root: Path = files.HOST, run: sensors.Run | None = None) -> Callable[[], Look]:
    """Return a function that looks at the machine and at process ``pid``."""
    tick, read_sensors = os.sysconf("SC_CLK_TCK"), sensors.reader(root, run)

    def look() -> Look:
        own, faults = _process(pid, root, tick)
        ticks = files.cpu_ticks(root)
        return Look(
            time.monotonic(),
            read_sensors(),
            ticks[0] / tick if ticks else None,
            own,
            faults,
            _swap_ins(root),
        )

    return look


def _process(pid: int, root: Path, tick: int) -> tuple[float | None, int | None]:
    """Return CPU seconds and major faults of a process, fields 14, 15 and 12 of its stat."""
    # The name may hold spaces and brackets: the fields begin after its last bracket.
    words = (files.text(root / "proc" / str(pid) / "stat") or "").rpartition(")")[2].split()
    if len(words) < 13 or not all(words[i].isdecimal() for i in (9, 11, 12)):
        return None, None
    return (int(words[11]) + int(words[12])) / tick, int(words[9])


def _swap_ins(root: Path) -> int | None:
    for line in (files.text(root / "proc/vmstat") or "").splitlines():
        key, _, value = line.partition(" ")
        if key == "pswpin" and value.isdecimal():
            return int(value)
    return None

"""Memory, temperature, clock, throttling and CPU of a machine over time, and of a model on it.

Reading is a few small files; half a second is the shortest interval, because more of it would cost
tokens/s.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pitool.device import files, memory, sensors
from pitool.device.sensors import Reading, Run

SHORTEST_SECONDS = 0.5
WORKER = b"pitool.engine.worker_main"


@dataclass(frozen=True, slots=True)
class Sample:
    """One look: seconds since 1970, bytes, °C, MHz.

    ``cpu``: the busy share of all cores since the last look;
    ``worker_bytes``: resident memory of all pitool workers, None where none runs; None: unknown.
    """

    time: float
    available_bytes: int | None
    swap_used_bytes: int | None
    worker_bytes: int | None
    cpu: float | None
    temperature_c: float | None
    clock_mhz: float | None
    throttled_now: tuple[str, ...] | None
    throttled_since_boot: tuple[str, ...] | None

    def to_row(self) -> dict[str, Any]:
        """Return flat values for CSV: flags joined by ``+``, empty where there are none."""
        flags = {
            name: None if names is None else "+".join(names)
            for name, names in (
                ("throttled_now", self.throttled_now),
                ("throttled_since_boot", self.throttled_since_boot),
            )
        }
        return {**asdict(self), **flags}


CSV_HEAD = ",".join(field.name for field in fields(Sample))


def csv_line(sample: Sample) -> str:
    """Return a sample below ``CSV_HEAD``, without the end of the line; unknown is empty."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(
        "" if value is None else value for value in sample.to_row().values()
    )
    return text.getvalue()


class Monitor:
    """Looks at a machine whenever it is asked; the busy share is of the time since the last."""

    def __init__(self, root: Path = files.HOST, run: Run | None = None) -> None:
        self._root, self._read_sensors = root, sensors.reader(root, run)
        self._before = files.cpu_ticks(root)

    def look(self) -> Sample:
        """Return what is there now."""
        before, self._before = self._before, files.cpu_ticks(self._root)
        return _sample(self._root, self._read_sensors(), _busy_share(before, self._before))


def watch(
    interval: float,
    root: Path = files.HOST,
    run: Run | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Sample]:
    """Yield a sample every ``interval`` seconds, the first one after one interval, for ever."""
    monitor = Monitor(root, run)
    while True:
        sleep(max(interval, SHORTEST_SECONDS))
        yield monitor.look()


def _sample(root: Path, reading: Reading, cpu: float | None) -> Sample:
    flags = reading.throttled
    meminfo = files.sizes(root / "proc/meminfo")
    total, free = meminfo.get("SwapTotal"), meminfo.get("SwapFree")
    return Sample(
        time=round(time.time(), 3),
        available_bytes=memory.available(root),
        swap_used_bytes=None if total is None or free is None else total - free,
        worker_bytes=_workers(root),
        cpu=cpu,
        temperature_c=reading.temperature_c,
        clock_mhz=reading.clock_mhz,
        throttled_now=flags.now if flags else None,
        throttled_since_boot=flags.since_boot if flags else None,
    )


def _busy_share(before: tuple[int, int] | None, after: tuple[int, int] | None) -> float | None:
    if before is None or after is None or after[1] <= before[1]:
        return None
    return round((after[0] - before[0]) / (after[1] - before[1]), 3)


def _workers(root: Path) -> int | None:
    sizes = []
    for path in (root / "proc").glob("[0-9]*/cmdline"):
        try:
            mine = WORKER in path.read_bytes()
        except OSError:
            continue  # it ended meanwhile
        size = memory.rss(int(path.parent.name), root) if mine else None
        if size is not None:
            sizes.append(size)
    return sum(sizes) if sizes else None

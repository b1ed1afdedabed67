"""The child's side of making an artifact: one technique in a process of its own.

So that its peak memory is its own, and a crash ends only its row.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pitool.catalog import reading
from pitool.checkpoint.source import Source, find_adapters, open_checkpoint
from pitool.convert.techniques import find_technique
from pitool.convert.techniques.assemble import Assembled, assemble
from pitool.convert.techniques.workbench import Workbench
from pitool.device import memory
from pitool.process.service import Call, serve
from pitool.quality.calibration import open_calibrator


class Reporter:
    """Progress as events of a call; see ``report.progress``."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def stage(self, title: str, total: int, *, bytes_: bool = False) -> None:
        """Begin a stage."""
        self._call.event(stage=title, total=total, bytes=bytes_)

    def advance(self, count: int) -> None:
        """Report units done."""
        self._call.event(advance=count)

    def close(self) -> None:
        """End the last stage."""


def make(order: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Return what came of an order, as JSON values."""
    where = order["source"]
    adapters = find_adapters(tuple(map(Path, where["adapters"])), tuple(where["scales"]))
    source = Source(where["id"], where["revision"], Path(where["folder"]), adapters=adapters)
    threads = order["threads"]
    calibration = reading.read_json(Path(order["calibration"]), "compare again")
    bench = Workbench(
        open_checkpoint(source),
        Path(order["folder"]),
        tuple(tuple(window) for window in calibration),
        threads,
        reporter,
        lambda path: open_calibrator(path, threads),
        Path(order["shared"]),
    )
    start = time.perf_counter()
    assembled = assemble(find_technique(order["technique"]), bench)
    seconds = time.perf_counter() - start
    return {**to_json(assembled), "seconds": seconds, "memory": peak_memory()}


def peak_memory() -> int | None:
    """Return the most bytes that this process or one that it started ever held."""
    own = memory.peak_rss(os.getpid())
    unit = 1 if sys.platform == "darwin" else 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    return max(own, children) if own is not None else None


def to_json(assembled: Assembled) -> dict[str, Any]:
    """Return an artifact as JSON values."""
    values = asdict(assembled)
    values["made"]["entry"] = str(assembled.made.entry)
    return values


def main() -> None:
    """Serve the lab; what a technique started ends with it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    serve(
        {"make": lambda call: call.result(make(call.arguments, Reporter(call)))},
        abandon=lambda: os.kill(os.getpid(), signal.SIGTERM),
    )


if __name__ == "__main__":
    main()

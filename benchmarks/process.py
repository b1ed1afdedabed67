"""Runs one side of a benchmark in a process of its own: seconds, and the memory of its tree."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Step:
    """Wall seconds and peak bytes of one process; ``stages``: seconds by stage, where told."""

    seconds: float
    resident: int
    anonymous: int
    stages: dict[str, float]


def run(order: Sequence[str | Path]) -> Step:
    """Run a process to its end; ends the benchmark when it fails."""
    start = time.monotonic()
    process = subprocess.Popen(
        [str(word) for word in order], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    peak = [0, 0]
    watcher = threading.Thread(target=_watch, args=(process.pid, peak), daemon=True)
    watcher.start()
    out, err = process.communicate()
    seconds = time.monotonic() - start
    watcher.join()
    if process.returncode:
        sys.exit(f"{order[0]} failed: {err[-2000:]}")
    lines = [line for line in out.splitlines() if line.startswith("{")]
    return Step(seconds, peak[0], peak[1], json.loads(lines[-1]) if lines else {})


def _watch(pid: int, peak: list[int]) -> None:
    """Follow resident and anonymous bytes of a process tree until it ends."""
    while True:
        found = [_memory(each) for each in _tree(pid)]
        now = [sum(column) for column in zip(*found, strict=True)]
        if not any(now):
            return
        peak[:] = map(max, peak, now)
        time.sleep(POLL_SECONDS)


def _tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return [pid]
    return [pid, *(each for child in children for each in _tree(int(child)))]


def _memory(pid: int) -> tuple[int, int]:
    """Return resident and anonymous bytes, zeros for a process that ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0, 0
    values = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    if "VmRSS" not in values:
        return 0, 0
    return tuple(int(values[key].split()[0]) * 1024 for key in ("VmRSS", "RssAnon"))  # type: ignore[return-value]


def compared(name: str, values: dict[str, list[float]], scale: float) -> None:
    """Print the medians of ours and theirs, and the ratio with the spread of the pairs."""
    ours, theirs = (statistics.median(values[side]) * scale for side in ("ours", "theirs"))
    ratios = [a / b for a, b in zip(values["ours"], values["theirs"], strict=True)]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"{name:<32} {ours:10.2f} {theirs:14.2f}    {ours / theirs:5.2f} ({spread})")

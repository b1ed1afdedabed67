"""Checks of the disk that the models lie on: what it is, how fast it is read, what room it has."""

from __future__ import annotations

import mmap
import os
import shutil
import time
from pathlib import Path

from pitool.catalog.bundles import default_folder, home
from pitool.device.doctor.finding import Finding, System
from pitool.report.numbers import format_bytes, format_seconds

LEAST_FREE = 2_000_000_000
# Bytes/s below which a disk is said to be slow: cards read 20 to 90 MB/s.
SLOW_READ = 150e6
LARGE_MODEL = 2_000_000_000
BLOCK = 4 * 1024**2
# Enough for a mean, little enough to wait for: a slow card reads 20 MB/s.
MOST_BYTES = 128 * 1024**2
MOST_SECONDS = 1.0
LEAST_BYTES = 1024**2


def storage(system: System) -> Finding | None:
    """From what the models are read, and how fast."""
    device, speed = _device_of(system, home()), system.read_speed()
    if device is None:
        return None
    kinds = {"mmcblk": "an SD card or eMMC", "nvme": "an NVMe disk", "sd": "a USB or SATA disk"}
    kind = next((text for start, text in kinds.items() if device.startswith(start)), device)
    found = f"models are on {kind}" + (f", read at {format_bytes(speed)}/s" if speed else "")
    slow = device.startswith("mmcblk") if speed is None else speed < SLOW_READ
    if not slow:
        return Finding("storage", "ok", found)
    seconds = format_seconds(LARGE_MODEL / speed) if speed else "about half a minute"
    return Finding(
        "storage",
        "note",
        found,
        f"a model of {format_bytes(LARGE_MODEL)} takes {seconds} to load from disk",
        "move ~/.local/share/pitool to an NVMe or USB 3 disk and set PITOOL_HOME to it",
    )


def _device_of(system: System, path: Path) -> str | None:
    """Return the block device that a path lies on, from the mount table."""
    wanted = str(path.absolute())
    best, found = -1, None
    for line in (system.text("proc/mounts") or "").splitlines():
        words = line.split()
        if len(words) < 2 or not words[0].startswith("/dev/"):
            continue
        point = words[1].rstrip("/")
        if (wanted == point or wanted.startswith(f"{point}/")) and len(point) > best:
            best, found = len(point), words[0].removeprefix("/dev/")
    return found


def free_space(_system: System) -> Finding | None:
    """Room for another model."""
    folder = next((p for p in (home(), *home().parents) if p.is_dir()), None)
    if folder is None:
        return None
    free = shutil.disk_usage(folder).free
    if free >= LEAST_FREE:
        return Finding("free space", "ok", format_bytes(free))
    return Finding(
        "free space",
        "warning",
        f"{format_bytes(free)} where models are stored",
        "a model of 1 to 2 GB may not fit",
        "run pitool list, then pitool rm for the bundles that you do not need",
    )


def models_read_speed() -> float | None:
    """Return bytes/s at which the largest model file is read; None where that cannot be told."""
    files = [path for path in default_folder().glob("*/**/*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size, default=None)
    return None if largest is None else read_speed(largest)


def read_speed(path: Path) -> float | None:
    """Return bytes/s of reading a file with O_DIRECT, which the page cache has no part in.

    None for a file below 1 MiB, and where the file system has no such reads (tmpfs, some network
    mounts).
    """
    if not hasattr(os, "O_DIRECT") or path.stat().st_size < LEAST_BYTES:
        return None
    try:
        file = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        return None
    try:
        # A mapping of its own is aligned as O_DIRECT wants it.
        with mmap.mmap(-1, BLOCK) as buffer:
            return _timed(file, buffer)
    except OSError:
        return None
    finally:
        os.close(file)


def _timed(file: int, buffer: mmap.mmap) -> float | None:
    done, start = 0, time.perf_counter()
    while done < MOST_BYTES and time.perf_counter() - start < MOST_SECONDS:
        count = os.readv(file, [buffer])
        done += count
        if count < BLOCK:
            break
    seconds = time.perf_counter() - start
    return done / seconds if done >= LEAST_BYTES and seconds > 0 else None

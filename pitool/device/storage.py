"""How fast the disk that the models lie on is read, past the page cache; writes nothing."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

from pitool.catalog.bundles import default_folder

BLOCK = 4 * 1024**2
# Enough for a mean, little enough to wait for: a slow card reads 20 MB/s.
MOST_BYTES = 128 * 1024**2
MOST_SECONDS = 1.0
LEAST_BYTES = 1024**2


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

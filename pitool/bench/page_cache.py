"""What of files lies in the kernel's page cache, and putting it out of there."""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from collections.abc import Sequence
from pathlib import Path

# Pages that a processor holds in a batch of its own, or that are being written, stay at first.
EVICTIONS = 20
PAUSE_SECONDS = 0.05


def evict(path: Path) -> None:
    """Ask the kernel to forget a file's pages, again while some are left.

    It may refuse where the file is in use; ``cached_share`` says what became of it.
    """
    if not hasattr(os, "posix_fadvise"):
        return  # macOS
    with path.open("rb") as file:
        for attempt in range(EVICTIONS):
            if attempt:
                time.sleep(PAUSE_SECONDS)
            os.fsync(file.fileno())  # a page that is not written yet cannot go
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            if not cached_share([path]):
                return


def cached_share(paths: Sequence[Path]) -> float | None:
    """Return the share of files' pages in the page cache; None where the kernel does not tell.

    By ``mincore(2)``, which reads nothing: a read that must not wait (RWF_NOWAIT) starts the
    kernel's reading ahead and so fills what it asks about.
    """
    counts = [_pages(path) for path in paths if path.stat().st_size]
    known = [count for count in counts if count is not None]
    pages = sum(pages for _, pages in known)
    return sum(here for here, _ in known) / pages if pages and len(known) == len(counts) else None


def _pages(path: Path) -> tuple[int, int] | None:
    """Return how many of a file's pages are in the page cache, and how many it has."""
    if not (os.access(path, os.W_OK) or path.stat().st_uid == os.geteuid()):
        return None  # of other users' files the kernel says that everything is there
    try:
        mincore = ctypes.CDLL(None, use_errno=True).mincore
    except AttributeError:
        return None
    # The C function wants an address, which Python gives of writable maps only: a private one.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        states = (ctypes.c_ubyte * -(-len(mapped) // mmap.PAGESIZE))()
        first = ctypes.c_char.from_buffer(mapped)
        address = ctypes.c_void_p(ctypes.addressof(first))
        failed = mincore(address, ctypes.c_size_t(len(mapped)), states)
        del first  # a map in use cannot be closed
        return None if failed else (sum(state & 1 for state in states), len(states))

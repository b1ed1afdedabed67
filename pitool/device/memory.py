"""How much memory there is, and how much a process holds; all figures in bytes.

Linux only: elsewhere every answer is None, which means unknown.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from pitool.device import files


def rss(pid: int, root: Path = files.HOST) -> int | None:
    """Return the resident memory of a process (VmRSS), mapped files included."""
    return _status(pid, root).get("VmRSS")


def peak_rss(pid: int, root: Path = files.HOST) -> int | None:
    """Return the highest resident memory that a process ever had (VmHWM)."""
    return _status(pid, root).get("VmHWM")


def anonymous(pid: int, root: Path = files.HOST) -> int | None:
    """Return the resident memory that no file backs (RssAnon): the kernel cannot simply drop it."""
    return _status(pid, root).get("RssAnon")


def total(root: Path = files.HOST) -> int | None:
    """Return the memory that Linux manages (MemTotal)."""
    return files.sizes(root / "proc/meminfo").get("MemTotal")


def swap_total(root: Path = files.HOST) -> int | None:
    """Return the size of all swap, zram included (SwapTotal)."""
    return files.sizes(root / "proc/meminfo").get("SwapTotal")


def available(root: Path = files.HOST) -> int | None:
    """Return what a new process may take: MemAvailable, or less where the cgroup leaves less."""
    free = files.sizes(root / "proc/meminfo").get("MemAvailable")
    known = [size for size in (free, left_in_cgroup(root)) if size is not None]
    return min(known, default=None)


def _status(pid: int, root: Path) -> dict[str, int]:
    return files.sizes(root / "proc" / str(pid) / "status")


def left_in_cgroup(root: Path) -> int | None:
    """Return what the tightest memory.max above this process leaves; None without a limit."""
    top = root / "sys/fs/cgroup"
    own = PurePosixPath(files.fields(root / "proc/self/cgroup").get("0", ":/").removeprefix(":"))
    folders = [top.joinpath(*path.parts[1:]) for path in (own, *own.parents)]
    left = [_left(folder) for folder in folders if ".." not in folder.parts]
    return min((size for size in left if size is not None), default=None)


def _left(folder: Path) -> int | None:
    """Return memory.max less what is in use; the page cache does not count, for it gives way."""
    limit = files.integer(folder / "memory.max")
    if limit is None:
        return None
    used = files.integer(folder / "memory.current") or 0
    cache = _statistic(folder, "active_file") + _statistic(folder, "inactive_file")
    return max(0, limit - max(0, used - cache))


def _statistic(folder: Path, name: str) -> int:
    """Return one figure of memory.stat; 0 when it is missing, which only makes the rest smaller."""
    for line in (files.text(folder / "memory.stat") or "").splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdecimal():
            return int(value)
    return 0

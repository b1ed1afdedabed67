"""Reads the small files of ``/proc`` and ``/sys``; what is missing or not readable is None."""

from __future__ import annotations

from pathlib import Path

HOST = Path("/")


def text(path: Path) -> str | None:
    """Return the text of a file without surrounding space and NULs, or None."""
    try:
        return path.read_bytes().decode("utf-8", "replace").strip("\0 \t\n")
    except OSError:
        return None


def integer(path: Path, base: int = 10) -> int | None:
    """Return the number that a file holds, or None."""
    try:
        return int(text(path) or "", base)
    except ValueError:
        return None


def fields(path: Path) -> dict[str, str]:
    """Return the ``key: value`` lines of a file; the first of several equal keys counts."""
    found: dict[str, str] = {}
    for line in (text(path) or "").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(key.strip(), value.strip())
    return found


def sizes(path: Path) -> dict[str, int]:
    """Return the lines of a file that end in ``kB`` as bytes."""
    found = {}
    for key, value in fields(path).items():
        number, _, unit = value.partition(" ")
        if unit.strip() == "kB" and number.isdecimal():
            found[key] = int(number) * 1024
    return found


def cpu_ticks(root: Path) -> tuple[int, int] | None:
    """Return busy and all ticks of all cores since boot (man 5 proc, /proc/stat)."""
    words = (text(root / "proc/stat") or "").partition("\n")[0].split()
    if len(words) < 9 or words[0] != "cpu" or not all(word.isdecimal() for word in words[1:9]):
        return None
    ticks = [int(word) for word in words[1:9]]
    idle, waiting = ticks[3:5]
    return sum(ticks) - idle - waiting, sum(ticks)

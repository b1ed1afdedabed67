"""Files are written whole or not at all, and looked for without surprises."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

from pitool.errors import UsageError


def path_kind(path: Path) -> Literal["file", "folder"] | None:
    """Return what lies at ``path``; None for nothing, and for a text that no name can be."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None
    return "folder" if stat.S_ISDIR(mode) else "file"


def expand(text: str, what: str = "the path") -> Path:
    """Return the path that a user wrote, ``~`` and ``~NAME`` replaced.

    UsageError, which begins with ``what``, where there is no such user, or no home.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UsageError(
            f"{what} {text!r} begins with the home of a user that does not exist",
            "write the path without ~",
        ) from None


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` so that a power cut leaves either the old or the new."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """Flush a file or the names in a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Return names, sizes and times of a file, or of those in a folder; empty where it is gone."""
    try:
        found = sorted(path.iterdir()) if path.is_dir() else [path]
        return tuple((p.name, (s := p.stat()).st_size, s.st_mtime_ns) for p in found)
    except OSError:
        return ()

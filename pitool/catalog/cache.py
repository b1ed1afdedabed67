"""The cache of the converting machine: one folder, one limit, the least recently used goes first.

``PITOOL_CACHE`` names the folder (default ``$XDG_CACHE_HOME/pitool``), ``PITOOL_CACHE_GB`` the
limit of all that is kept below it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from contextlib import AbstractContextManager
from pathlib import Path

from pitool.catalog.files import expand
from pitool.catalog.scratch import hold, in_use, locked, scratch
from pitool.errors import UsageError

LIMIT_GB = 20.0
# What is kept, each entry by itself: intermediates, sources, wheels and packages of the board.
ENTRIES = ("intermediate/*", "board-wheels/*", "board-packages/*", "board-sources/*", "sdist-*")


def root() -> Path:
    """Return the folder of the cache, which may not exist yet."""
    chosen = os.environ.get("PITOOL_CACHE")
    if not chosen:
        chosen = str(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "pitool")
    return expand(chosen, "the cache")


def folder(*names: str) -> Path:
    """Return a folder of the cache, made if missing."""
    path = root().joinpath(*names)
    path.mkdir(parents=True, exist_ok=True)
    return path


def working(name: str) -> AbstractContextManager[Path]:
    """Give a new folder to work in, gone at the end.

    What killed processes left under the same ``name`` is removed first.
    """
    return scratch(folder("tmp"), name)


def limit() -> int:
    """Return the size limit in bytes; UsageError when it is not a number."""
    text = os.environ.get("PITOOL_CACHE_GB") or str(LIMIT_GB)
    if not re.fullmatch(r"\d{1,9}(\.\d*)?", text):
        raise UsageError(
            f"PITOOL_CACHE_GB={text!r} is not a size", "set it to a number of gigabytes, such as 20"
        )
    return round(float(text) * 1e9)


def take(entry: Path) -> bool:
    """Keep an entry from being trimmed until this process ends; False where there is none."""
    with locked(entry.parent):
        if not entry.exists():
            return False
        hold(entry)
        os.utime(entry)
    return True


def trim() -> None:
    """Delete the least recently used entries above the limit, but none that is in use."""
    found = []
    for pattern in ENTRIES:
        for path in root().glob(pattern):
            with contextlib.suppress(FileNotFoundError):
                if not path.name.startswith("."):
                    found.append((path.stat().st_mtime_ns, _size(path), path))
    total, most = sum(size for _, size, _ in found), limit()
    for _, size, path in sorted(found):
        if total <= most:
            return
        with locked(path.parent):
            if in_use(path):
                continue
            _remove(path)
        total -= size


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files)

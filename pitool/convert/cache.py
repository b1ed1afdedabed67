"""The cache of intermediate files between conversions: a folder with a size limit.

``PITOOL_CACHE`` names the folder (default ``$XDG_CACHE_HOME/pitool``), ``PITOOL_CACHE_GB`` the
limit. The least recently used file is deleted first. A file gets its name only when complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pitool
from pitool.catalog.files import expand, sync
from pitool.catalog.manifest import Source
from pitool.convert.staging import alive
from pitool.errors import UsageError

LIMIT_GB = 20.0


def folder() -> Path:
    """Return the folder of the intermediate files, which may not exist yet."""
    root = os.environ.get("PITOOL_CACHE")
    if not root:
        root = str(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "pitool")
    return expand(root, "the cache") / "intermediate"


def limit() -> int:
    """Return the size limit in bytes; UsageError when it is not a number."""
    text = os.environ.get("PITOOL_CACHE_GB") or str(LIMIT_GB)
    if not re.fullmatch(r"\d{1,9}(\.\d*)?", text):
        raise UsageError(
            f"PITOOL_CACHE_GB={text!r} is not a size", "set it to a number of gigabytes, such as 20"
        )
    return round(float(text) * 1e9)


def key(source: Source, kind: str) -> str:
    """Return the cache key of a source (by the hashes of its files) converted to ``kind``."""
    parts = [pitool.__version__, asdict(source), kind]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def get(name: str, make: Callable[[Path], object]) -> Path:
    """Return a cached file, which is made first if it does not exist.

    Removes what killed conversions left behind, then trims the cache.
    """
    path = folder() / f"{name}.gguf"
    _remove_stale()
    if path.is_file():
        os.utime(path)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        make(temporary)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
    trim(keep=path)
    return path


def trim(keep: Path | None = None) -> None:
    """Delete the least recently used files above the limit, but never ``keep``, which is in use."""
    if not folder().is_dir():
        return
    found = []
    for path in folder().glob("*.gguf"):
        with contextlib.suppress(FileNotFoundError):
            found.append((path == keep, path.stat().st_mtime_ns, path.stat().st_size, path))
    total = sum(size for _, _, size, _ in found)
    for kept, _, size, path in sorted(found):
        if total <= limit() or kept:
            return
        path.unlink(missing_ok=True)
        total -= size


def _remove_stale() -> None:
    for path in folder().glob(".*.partial"):
        match = re.search(r"\.([1-9]\d*)\.partial$", path.name)
        if match and not alive(int(match[1])):
            path.unlink(missing_ok=True)

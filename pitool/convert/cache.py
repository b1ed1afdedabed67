"""Intermediate files that conversions share; a file gets its name only when complete."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pitool
from pitool.catalog import cache
from pitool.catalog.files import sync
from pitool.catalog.manifest import Source
from pitool.catalog.scratch import locked, scratch


def folder() -> Path:
    """Return the folder of the intermediate files, which may not exist yet."""
    return cache.root() / "intermediate"


def key(source: Source, kind: str) -> str:
    """Return the cache key of a source (by the hashes of its files) converted to ``kind``."""
    parts = [pitool.__version__, asdict(source), kind]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def get(name: str, make: Callable[[Path], object]) -> Path:
    """Return a cached file, which is made first if it does not exist, and stays for this process.

    Removes what killed conversions left behind, then trims the cache.
    """
    path = folder() / f"{name}.gguf"
    folder().mkdir(parents=True, exist_ok=True)
    with scratch(folder(), "making") as place:
        if not cache.take(path):
            made = place / path.name
            make(made)
            sync(made)
            with locked(folder()):
                made.replace(path)
                sync(path.parent)
            cache.take(path)
    cache.trim()
    return path

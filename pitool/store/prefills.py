"""Saved prefills: the KV cache of a conversation as a file, so that nobody reads it twice.

Owns names, age and total size of the files; what is in them is the engine's. A file belongs to
one artifact with one set of settings; the least recently used ones go when the limit is reached.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from pitool.catalog.bundles import Runnable
from pitool.engine.base import Settings

FOLDER_NAME = "prefills"
LIMIT_BYTES = 512 * 1024**2
LEAST_TOKENS = 256
"""Fewer are read again sooner than a file is worth its wear of an SD card."""

# What changes neither the cache's numbers nor its layout.
_IRRELEVANT = {"decode_threads", "prefill_threads", "batch", "outputs", "load_mode"}


class Prefills:
    """A folder of states, at most ``limit`` bytes of them."""

    def __init__(self, folder: Path, limit: int = LIMIT_BYTES) -> None:
        self._folder, self._limit = folder, limit

    def find(self, key: str) -> Path | None:
        """Return the file of a key, which makes it the youngest; None when there is none."""
        path = self._folder / key
        try:
            os.utime(path)
        except OSError:
            return None
        return path

    def save(self, key: str, write: Callable[[Path], object]) -> None:
        """Have ``write`` make the file of a key; whatever it raises leaves the old one."""
        self._folder.mkdir(parents=True, exist_ok=True)
        staged = self._folder / f".{key}.{os.getpid()}"
        try:
            write(staged)
            staged.replace(self._folder / key)
        finally:
            staged.unlink(missing_ok=True)
        self._make_room()

    def drop(self, key: str) -> None:
        """Delete the file of a key, if there is one."""
        (self._folder / key).unlink(missing_ok=True)

    def drop_conversation(self, conversation: str) -> None:
        """Delete every file of a conversation, whatever model made it."""
        for path in self._folder.glob(f"{conversation}-*"):
            path.unlink(missing_ok=True)

    def _make_room(self) -> None:
        files = sorted(self._folder.glob("[!.]*"), key=lambda p: p.stat().st_mtime_ns, reverse=True)
        total = 0
        for path in files:
            total += path.stat().st_size
            if total > self._limit:
                path.unlink(missing_ok=True)


def key_of(name: str, runnable: Runnable, settings: Settings) -> str:
    """Return the key for a conversation or a system prompt with one artifact and its settings.

    The weights count by the hashes of the manifest, and by size and time of the file, so that one
    that was replaced does not answer for another.
    """
    stat = runnable.entry.stat()
    hashes = [file.sha256 for file in runnable.artifact.files] if runnable.artifact else []
    chosen = {k: v for k, v in asdict(settings).items() if k not in _IRRELEVANT}
    facts = [str(runnable.entry), stat.st_size, stat.st_mtime_ns, hashes, chosen]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return f"{name}-{digest[:32]}"


def system_name(system: str) -> str:
    """Return the name under which the prefill of a system prompt is kept."""
    return "system." + hashlib.sha256(system.encode()).hexdigest()[:32]

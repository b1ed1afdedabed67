"""Saved prefills: KV caches as files, so that a conversation is not processed twice.

Owns the files' names, age and total size; their content is the engine's. A file belongs to one
artifact with one set of settings. The least recently used files are deleted at the limit.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from pitool.catalog.bundles import Runnable
from pitool.catalog.files import make_private
from pitool.engine.base import Settings

FOLDER_NAME = "prefills"
LIMIT_BYTES = 512 * 1024**2
LEAST_TOKENS = 256
"""A shorter prompt is processed again too quickly to be worth wearing out an SD card."""

# Settings that change neither the cache's values nor its layout.
_IRRELEVANT = {"decode_threads", "prefill_threads", "batch", "outputs", "load_mode"}


class Prefills:
    """A folder of saved prefills, at most ``limit`` bytes in total."""

    def __init__(self, folder: Path, limit: int = LIMIT_BYTES) -> None:
        self._folder, self._limit = folder, limit

    def find(self, key: str) -> Path | None:
        """Return the file of a key and mark it as used; None when there is none."""
        path = self._folder / key
        try:
            os.utime(path)
        except OSError:
            return None
        return path

    def save(self, key: str, write: Callable[[Path], object]) -> None:
        """Have ``write`` create the file of a key; if it raises, the old file stays."""
        staged = self._folder / f".{key}.{os.getpid()}"
        make_private(staged)  # a cache can be turned back into what was said
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
        """Delete every file of a conversation, whichever model wrote it."""
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

    It depends on the hashes in the manifest and on the file's size and time, so that a prefill is
    never used with other weights.
    """
    stat = runnable.entry.stat()
    hashes = [file.sha256 for file in runnable.artifact.files] if runnable.artifact else []
    chosen = {k: v for k, v in asdict(settings).items() if k not in _IRRELEVANT}
    facts = [str(runnable.entry), stat.st_size, stat.st_mtime_ns, hashes, chosen]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return f"{name}-{digest[:32]}"


def system_name(system: str) -> str:
    """Return the name of a system prompt's prefill."""
    return "system." + hashlib.sha256(system.encode()).hexdigest()[:32]

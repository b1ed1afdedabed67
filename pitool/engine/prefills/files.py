"""Saved prefills: KV caches as files, so that a conversation is not processed twice.

Owns the files' names, age and total size; their content is the engine's. A file belongs to one
artifact, one set of settings and one version of the engine, and its name ends with the CRC-32 of
its content: llama.cpp takes whatever values a file holds. The least recently used files are deleted
at the limit. A chat finds its own by its conversation's name; ``prefixes`` finds any by the
tokens in it, also those that a bundle brings along (``bundled``).
"""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from pitool.catalog.files import make_private_folder
from pitool.catalog.temporary import temporary

FOLDER_NAME = "prefills"
LIMIT_BYTES = 512 * 1024**2
LEAST_TOKENS = 256
"""A shorter prompt is processed again too quickly to be worth wearing out an SD card."""

_BLOCK = 1 << 20

log = logging.getLogger(__name__)


class Place(NamedTuple):
    """A folder of saved prefills, and the end of the keys of those that a loaded model can use.

    ``given``: what lies there is read, and neither written nor deleted.
    """

    folder: str
    model: str
    given: bool = False


class Prefills:
    """A folder of saved prefills, at most ``limit`` bytes in total, or any number for None."""

    def __init__(self, folder: Path, limit: int | None = LIMIT_BYTES) -> None:
        self._folder, self._limit = folder, limit

    def find(self, key: str) -> Path | None:
        """Return the file of a key and mark it as used; None when there is none.

        Reads the file, which the engine is about to do: one that is damaged is deleted.
        """
        return next(filter(self.whole, self._files(key)), None)

    def whole(self, path: Path) -> bool:
        """Mark a file as used, or delete it where it is damaged; False where it cannot be used."""
        try:
            if intact(path):
                os.utime(path)
                return True
        except OSError:
            return False
        log.warning("dropped a saved prefill: it is damaged")
        path.unlink(missing_ok=True)
        return False

    def of_model(self, model: str) -> list[Path]:
        """Return the files of an artifact with its settings, by ``model_of`` these."""
        return list(self._folder.glob(f"[!.]*-{model}.*"))

    def has(self, key: str) -> bool:
        """Tell whether there is a file of a key, damaged or not."""
        return any(self._files(key))

    def save(self, key: str, write: Callable[[Path], object]) -> None:
        """Have ``write`` fill the file of a key; if it raises, the old file stays."""
        make_private_folder(self._folder)
        with temporary(self._folder, 0o600) as made:  # it can be turned back into what was said
            write(made.path)
            target = self._folder / f"{key}{_checksum(made.path)}"
            made.path.replace(target)
        self._delete(path for path in self._files(key) if path != target)
        self._make_room()

    def drop(self, key: str) -> None:
        """Delete the file of a key, if there is one."""
        self._delete(self._files(key))

    def drop_conversation(self, conversation: str) -> None:
        """Delete every file of a conversation, whichever model wrote it."""
        self._delete(self._folder.glob(f"{conversation}-*"))

    def _files(self, key: str) -> Iterator[Path]:
        """Yield the file of a key; more than one where a program was killed between two steps."""
        return self._folder.glob(f"{key}.*")

    @staticmethod
    def _delete(paths: Iterable[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)

    def _make_room(self) -> None:
        if self._limit is None:
            return
        files = sorted(self._folder.glob("[!.]*"), key=lambda p: p.stat().st_mtime_ns, reverse=True)
        total = 0
        for path in files:
            total += path.stat().st_size
            if total > self._limit:
                path.unlink(missing_ok=True)


def intact(path: Path) -> bool:
    """Tell whether a file has the content that its name says; OSError where it cannot be read."""
    return path.suffix == _checksum(path)


def _checksum(path: Path) -> str:
    """Return the CRC-32 of a file as the suffix of its name."""
    found = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found = zlib.crc32(block, found)
    return f".{found:08x}"

"""Are the files of a bundle what its manifest says: there, of that size, of that sha256."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pitool.catalog.bundles import Bundle
from pitool.catalog.manifest import FileEntry

CHUNK_BYTES = 1 << 22

OnBytes = Callable[[int, int], None]
"""Called with the bytes that are done and those there are; what it raises ends the check."""


@dataclass(frozen=True, slots=True)
class Damage:
    """A listed file that is not what it should be."""

    path: str
    why: str


def damaged_files(bundle: Bundle, on_bytes: OnBytes = lambda *_: None) -> list[Damage]:
    """Return every listed file that is missing, of another size, or of another sha256."""
    made = bundle.manifest
    listed = [file for artifact in made.artifacts for file in artifact.files]
    listed += [*([made.reference] if made.reference else []), *made.extras]
    files = list(dict.fromkeys(listed))
    total, before = sum(file.bytes for file in files), 0
    found = []
    for file in files:
        why = _damage(bundle.path / file.path, file, partial(_passed, on_bytes, before, total))
        if why:
            found.append(Damage(file.path, why))
        before += file.bytes
        on_bytes(before, total)
    return found


def _passed(on_bytes: OnBytes, before: int, total: int, done: int) -> None:
    on_bytes(before + done, total)


def _damage(path: Path, file: FileEntry, on_bytes: Callable[[int], None]) -> str:
    """Return what is wrong with a file, or an empty text."""
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size != file.bytes:
        return f"has {size} bytes, not {file.bytes}"
    digest, done = hashlib.sha256(), 0
    try:
        with path.open("rb") as opened:
            while chunk := opened.read(CHUNK_BYTES):
                digest.update(chunk)
                done += len(chunk)
                on_bytes(done)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "" if digest.hexdigest() == file.sha256 else "has a different sha256"

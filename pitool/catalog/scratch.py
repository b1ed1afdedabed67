"""Folders that one process works in, and what is left of them when it is killed.

Whoever works in a folder holds its lock (flock of the folder itself), which ends with the process,
however that ends; so the next run tells a leftover from work in progress without guessing by
process ids, which are used again and differ between containers.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OWN, _REMOVED = "pitool", "removed"


@contextmanager
def scratch(parent: Path, name: str) -> Iterator[Path]:
    """Yield a new folder in ``parent`` that is gone at the end.

    Those that killed processes left, under whatever name, are removed first.
    """
    with locked(parent):
        for path in leftovers(parent, None, "partial"):
            shutil.rmtree(path, ignore_errors=True)
        folder = hidden_name(parent, name, "partial")
        folder.mkdir()
        lock = _lock(folder, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _unlock(lock)


def remove(folder: Path) -> None:
    """Remove a folder: out of sight at once, since half of it must not look like the whole.

    What killed removals left beside it goes as well.
    """
    parent = folder.parent
    with locked(parent):
        remove_leftovers(parent)
        hidden = hidden_name(parent, _OWN, _REMOVED)
        folder.rename(hidden)
        lock = _lock(hidden, fcntl.LOCK_EX)
    try:
        shutil.rmtree(hidden)
    finally:
        _unlock(lock)


def remove_leftovers(parent: Path) -> None:
    """Remove what killed removals left in a folder; called with it locked."""
    for path in leftovers(parent, _OWN, _REMOVED):
        shutil.rmtree(path, ignore_errors=True)


def hidden_name(parent: Path, name: str, suffix: str) -> Path:
    """Return a new name in ``parent`` that ``leftovers`` finds."""
    return parent / f".{name}.{secrets.token_hex(4)}.{suffix}"


def leftovers(parent: Path, name: str | None, suffix: str) -> list[Path]:
    """Return the folders ``.NAME.NUMBER.SUFFIX`` that nobody works in; None: of any name.

    Called with ``parent`` locked, so that none is just being made.
    """
    named = ".+" if name is None else re.escape(name)
    ours = re.compile(rf"\.{named}\.[0-9a-f]{{8}}\.{suffix}")
    return [path for path in parent.iterdir() if ours.fullmatch(path.name) and not in_use(path)]


def in_use(path: Path) -> bool:
    """Tell whether a process holds a file or folder; what cannot be locked counts as held."""
    with taken(path) as free:
        return not free


@contextmanager
def taken(path: Path) -> Iterator[bool]:
    """Hold a file or folder that nobody holds; yield False where that cannot be."""
    try:
        held = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield False
        return
    try:
        yield _locked_at_once(held)
    finally:
        os.close(held)


def _locked_at_once(held: int) -> bool:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def hold(path: Path) -> None:
    """Have a file or folder count as in use until this process ends."""
    _held.append(_lock(path, fcntl.LOCK_SH))


_held: list[int | None] = []


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a short step in a folder; waits for them."""
    lock = _lock(folder, fcntl.LOCK_EX)
    try:
        yield
    finally:
        _unlock(lock)


def _lock(path: Path, how: int) -> int | None:
    """Return a descriptor that holds the lock; None on a file system that has none (some NFS)."""
    held = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, how)
    except OSError:
        os.close(held)
        return None
    return held


def _unlock(lock: int | None) -> None:
    if lock is not None:
        with contextlib.suppress(OSError):
            os.close(lock)

"""A folder that becomes a bundle in one step, or leaves no trace.

Owns the staging folder next to the target, its removal on failure, and the switch.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from pitool.catalog.files import path_kind, sync, sync_tree
from pitool.catalog.manifest import FILE_NAME
from pitool.catalog.scratch import hidden_name, leftovers, locked, remove_leftovers, scratch
from pitool.errors import DoesNotFit, UsageError, cannot_write
from pitool.report.numbers import compare_bytes

SPARE_BYTES = 32 << 20
MOVED = "old"  # what a replaced bundle's name ends with until the new one has its name


class Staging:
    """A context manager: ``folder`` to write into, ``publish`` to give it the target's name."""

    folder: Path

    def __init__(self, target: Path, *, replace: bool) -> None:
        self._target, self._replace = target, replace
        self._exits = contextlib.ExitStack()

    def __enter__(self) -> Staging:
        check_target(self._target, replace=self._replace)
        parent = self._target.parent
        try:
            parent.mkdir(parents=True, exist_ok=True)
            with locked(parent):
                _clear_moved(self._target)
                remove_leftovers(parent)
            self.folder = self._exits.enter_context(scratch(parent, self._target.name))
        except OSError as error:
            raise cannot_write(parent, error, "choose another --out") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def publish(self) -> None:
        """Flush everything to disk and switch to it; a replaced bundle is removed last."""
        sync_tree(self.folder)
        with locked(self._target.parent):
            self._switch()

    def _switch(self) -> None:
        check_target(self._target, replace=self._replace)  # it may have appeared meanwhile
        old = hidden_name(self._target.parent, self._target.name, MOVED)
        if self._target.exists():
            self._target.rename(old)
        try:
            self.folder.rename(self._target)
        except OSError:
            if old.exists():
                old.rename(self._target)
            raise
        sync(self._target.parent)
        shutil.rmtree(old, ignore_errors=True)


def check_target(target: Path, *, replace: bool) -> None:
    """Raise UsageError when the target exists and must not be replaced."""
    kind = path_kind(target)
    if kind is None or (kind == "folder" and not any(target.iterdir())):
        return
    if not (target / FILE_NAME).is_file():
        raise UsageError(f"{target} exists and is not a bundle", "choose another --out")
    if not replace:
        raise UsageError(f"{target} already exists", "use --force to replace it, or another --out")


def check_disk(needs: Iterable[tuple[Path, int]]) -> None:
    """Raise DoesNotFit when a disk has too little free space; ``needs``: folders and bytes."""
    disks: dict[int, tuple[Path, int]] = {}
    for wanted, count in needs:
        folder = wanted
        while path_kind(folder) is None:
            folder = folder.parent
        disk = folder.stat().st_dev
        first, sum_ = disks.get(disk, (folder, 0))
        disks[disk] = (first, sum_ + count)
    for folder, needed in disks.values():
        _check_free(folder, needed)


def _check_free(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed and needed + SPARE_BYTES > free:
        wanted, there = compare_bytes(needed + SPARE_BYTES, free)
        raise DoesNotFit(
            f"{wanted} of disk space are needed, and {folder} has {there} free",
            "free some space, or choose another --out",
        )


def _clear_moved(target: Path) -> None:
    """Restore a bundle that a killed conversion had moved aside, or remove it if it has a heir."""
    for path in leftovers(target.parent, target.name, MOVED):
        if target.exists():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.rename(target)

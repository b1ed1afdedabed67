"""A folder that becomes a bundle in one step, or leaves no trace.

Owns the staging folder next to the target, its removal on failure, and the switch.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from pitool.catalog.files import path_kind, sync
from pitool.catalog.manifest import FILE_NAME
from pitool.errors import DoesNotFit, PitoolError, UsageError
from pitool.report.numbers import compare_bytes

SPARE_BYTES = 32 << 20


class Staging:
    """A context manager: ``folder`` to write into, ``publish`` to give it the target's name."""

    def __init__(self, target: Path, *, replace: bool) -> None:
        self._target, self._replace = target, replace
        self.folder = target.with_name(f".{target.name}.{os.getpid()}.partial")

    def __enter__(self) -> Staging:
        check_target(self._target, replace=self._replace)
        try:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale(self._target)
            self.folder.mkdir()
        except OSError as error:
            raise PitoolError(
                f"cannot write to {self._target.parent} ({error.strerror})",
                "choose another --out",
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def publish(self) -> None:
        """Flush everything to disk and switch to it; a replaced bundle is removed last."""
        for path in self.folder.rglob("*"):
            sync(path)
        sync(self.folder)
        check_target(self._target, replace=self._replace)  # it may have appeared meanwhile
        old = self._target.with_name(f".{self._target.name}.{os.getpid()}.old")
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
            f"the conversion needs {wanted} of disk space, and {folder} has {there} free",
            "free some space, or choose another --out",
        )


def _remove_stale(target: Path) -> None:
    """Remove what killed conversions left behind, and restore a bundle they had moved aside."""
    ours = re.compile(rf"\.{re.escape(target.name)}\.([1-9]\d*)\.(partial|old)")
    for path in list(target.parent.iterdir()):
        match = ours.fullmatch(path.name)
        if not match or alive(int(match[1])):
            continue
        if match[2] == "old" and not target.exists():
            path.rename(target)
        else:
            shutil.rmtree(path, ignore_errors=True)


def alive(pid: int) -> bool:
    """Tell whether a process is running, whoever owns it."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True

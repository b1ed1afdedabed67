"""Files that get their name once they are whole, and what killed processes leave of them.

Whoever writes one holds its lock (flock), as with the folders of ``scratch``; so the next write
into a folder tells a leftover from what another process is writing, and removes it. A file system
without locks has none removed.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pitool.catalog.scratch import hidden_name, taken

_NAME, _SUFFIX = "pitool", "partial"
_OURS = re.compile(rf"\.{_NAME}\.[0-9a-f]{{8}}\.{_SUFFIX}")
_TRIES = 100


@dataclass(frozen=True, slots=True)
class Temporary:
    """A file without its name yet: where it lies, and what writes into it."""

    path: Path
    file: IO[bytes]

    def sync(self) -> None:
        """Flush to the disk what was written."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def become(self, target: Path) -> None:
        """Give the file its name, in place of what had it: a power cut leaves one of both."""
        self.sync()
        self.path.replace(target)

    def become_new(self, target: Path) -> None:
        """Give the file a name that nothing has; FileExistsError else."""
        self.sync()
        try:
            os.link(self.path, target)
        except FileExistsError:
            raise
        except OSError:  # a file system without links, such as exFAT
            target.touch(exist_ok=False)
            self.path.replace(target)


@contextmanager
def temporary(folder: Path, mode: int = 0o666) -> Iterator[Temporary]:
    """Yield a new file in a folder, which is gone at the end unless it became another.

    ``mode``: its rights, less the umask's.
    """
    _remove_leftovers(folder)
    path, descriptor = _create(folder, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield Temporary(path, file)
    finally:
        path.unlink(missing_ok=True)


def _create(folder: Path, mode: int) -> tuple[Path, int]:
    """Return a new file and its descriptor, which holds its lock."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    for _ in range(_TRIES):
        path = hidden_name(folder, _NAME, _SUFFIX)
        descriptor = os.open(path, flags, mode)
        if _hold(descriptor) and os.path.lexists(path):
            break
        os.close(descriptor)  # another process took it for a leftover before it had its lock
        path.unlink(missing_ok=True)
    return path, descriptor


def _hold(descriptor: int) -> bool:
    """Lock a file; False where another process does."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a file system without locks
    return True


def _remove_leftovers(folder: Path) -> None:
    """Remove the files that nobody writes any more; those that must not be touched stay."""
    try:
        found = [path for path in folder.iterdir() if _OURS.fullmatch(path.name)]
    except OSError:  # a folder that may be written but not read
        return
    for path in found:
        with suppress(OSError), taken(path) as free:
            if free and stat.S_ISREG(path.lstat().st_mode):
                path.unlink()

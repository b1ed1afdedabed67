"""Files that a user names: where a shell would write, but whole or not at all.

A link is followed; a device, a pipe or a descriptor (``/dev/stdout``, a process substitution) is
written through; a file that is replaced keeps its rights, its owner and its other names. Files of
pitool's own are written by ``files``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pitool.catalog.files import path_kind, sync
from pitool.catalog.temporary import Temporary, temporary
from pitool.errors import UsageError, cannot_write

MOST_LINKS = 40  # as Linux follows


class AlreadyThere(UsageError):  # noqa: N818
    """A file that must not be replaced has the name."""


def check_output(path: Path, option: str) -> None:
    """Raise UsageError where no file can be written, before the work for it begins."""
    parent = path.absolute().parent
    if path_kind(path) == "folder":
        raise UsageError(f"{path} is a folder", f"choose another {option}")
    if path_kind(parent) != "folder":
        raise UsageError(f"{parent} is not a folder", f"create it, or choose another {option}")


def is_written_through(path: Path) -> bool:
    """Tell whether a path names a device, a pipe or a descriptor, whose names have no suffix."""
    return _descriptor(path) is not None or (path_kind(path) == "file" and not path.is_file())


def write_output(path: Path, data: bytes, *, replace: bool = True) -> None:
    """Write ``data`` where a user said; see ``output``."""
    with output(path, replace=replace) as file:
        file.write(data)


@contextmanager
def output(path: Path, *, replace: bool = True) -> Iterator[IO[bytes]]:
    """Yield a file to write from its start to its end; without seeking, for it may be a pipe.

    What was there stays until all is written. With ``replace`` False, a file that is there raises
    UsageError. Raises DoesNotFit on a full disk, PitoolError when the system refuses otherwise.
    """
    try:
        with _written(path, replace=replace) as file:
            yield file
    except BrokenPipeError:
        raise
    except FileExistsError:
        raise AlreadyThere(f"{path} already exists", "choose another file") from None
    except (OSError, ValueError) as error:
        raise cannot_write(path, error) from None


def open_new(path: Path) -> IO[bytes]:
    """Open a file that is not there yet, or what is no file; FileExistsError else."""
    through = _through(path)
    if through is not None:
        return through
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.fdopen(os.open(os.path.realpath(path), flags, 0o666), "wb")


@contextmanager
def _written(path: Path, *, replace: bool) -> Iterator[IO[bytes]]:
    through = _through(path)
    if through is not None:
        with through:
            yield through
        return
    target = Path(os.path.realpath(path))
    if not replace and os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    with _staged(target) as staged:
        if staged is None:  # only what is written into it leaves it what it is
            with target.open("wb") as file:
                yield file
            return
        yield staged.file
        if replace:
            staged.become(target)
        else:
            staged.become_new(target)
    with contextlib.suppress(OSError):  # a folder that may be written but not read
        sync(target.parent)


def _through(path: Path) -> IO[bytes] | None:
    """Open what is neither a file nor nothing: a device, a pipe, a descriptor of this process."""
    number = _descriptor(path)
    if number is not None:
        return os.fdopen(os.dup(number), "wb")
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return None
    return None if regular else path.open("wb")


def _descriptor(path: Path) -> int | None:
    """Return the number of the descriptor that a path names.

    Opened by its name, a file that the shell redirected to would be cut to nothing.
    """
    own = os.path.realpath("/dev/fd")
    for _ in range(MOST_LINKS):
        if path.name.isdecimal() and os.path.realpath(path.parent) == own:
            return int(path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


@contextmanager
def _staged(target: Path) -> Iterator[Temporary | None]:
    """Yield the file that takes the target's place, with its rights and owner.

    None where that cannot be: the target has other names, or its folder or owner is not ours.
    """
    try:
        found = target.stat()
    except FileNotFoundError:
        found = None
    if found and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
    with contextlib.ExitStack() as exits:
        if found is None:
            yield exits.enter_context(temporary(target.parent))
            return
        made = None
        if found.st_nlink == 1:
            with contextlib.suppress(OSError):
                made = exits.enter_context(temporary(target.parent, 0o600))
        if made and not _made_alike(made.file.fileno(), found):
            exits.close()
            made = None
        yield made


def _made_alike(descriptor: int, found: os.stat_result) -> bool:
    """Give an open file the owner and the rights of another; False where that is refused."""
    made = os.fstat(descriptor)
    try:
        if (made.st_uid, made.st_gid) != (found.st_uid, found.st_gid):
            os.fchown(descriptor, found.st_uid, found.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(found.st_mode))
    except OSError:
        return False
    return True

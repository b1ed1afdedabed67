"""Files of pitool's own: written whole or not at all, and looked for without surprises.

A file that a user names is written by ``outputs``.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

from pitool.catalog.temporary import temporary
from pitool.errors import UsageError


def path_kind(path: Path) -> Literal["file", "folder"] | None:
    """Return what lies at ``path``; None for nothing, and for a text that no name can be."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None
    return "folder" if stat.S_ISDIR(mode) else "file"


def expand(text: str, what: str = "the path") -> Path:
    """Return the path that a user wrote, ``~`` and ``~NAME`` replaced.

    UsageError, which begins with ``what``, where there is no such user, or no home.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UsageError(
            f"{what} {text!r} begins with the home of a user that does not exist",
            "write the path without ~",
        ) from None


def write_atomically(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Replace ``path`` by ``data`` so that a power cut leaves either the old or the new.

    ``mode``: the rights of the new one, less the umask's.
    """
    with temporary(path.parent, mode) as made:
        made.file.write(data)
        made.become(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Flush a file or the names in a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Flush everything in a folder, and the folder itself; links are not followed."""
    for path in folder.rglob("*"):
        if not path.is_symlink():
            sync(path)
    sync(folder)


def make_private(file: Path) -> None:
    """Make a file where there is none, and keep other users from it and from its folder."""
    make_private_folder(file.parent)
    os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    _tighten(file, 0o600)


def make_private_folder(folder: Path) -> None:
    """Make a folder where there is none, and keep other users from it.

    One that is set up to be shared (sticky or setgid), belongs to somebody else or holds the user's
    home keeps its rights: then those of the files in it have to do.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    shared = folder.stat().st_mode & (stat.S_ISVTX | stat.S_ISGID)
    home = Path(os.path.realpath(os.path.expanduser("~")))  # noqa: PTH111 - there may be no home
    if not shared and not home.is_relative_to(folder.resolve()):
        _tighten(folder, 0o700)


def _tighten(path: Path, mode: int) -> None:
    found = path.stat()
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & ~mode:
        path.chmod(stat.S_IMODE(found.st_mode) & mode)


def stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Return names, sizes and times of a file, or of those in a folder; empty where it is gone."""
    try:
        found = sorted(path.iterdir()) if path.is_dir() else [path]
        return tuple((p.name, (s := p.stat()).st_size, s.st_mtime_ns) for p in found)
    except OSError:
        return ()

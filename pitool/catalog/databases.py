"""The SQLite files that pitool keeps: their names and schemas, opened for their owner alone.

What is in them is known by who opens them; here is what they have in common, so that the doctor
can look at files whose rooms he does not know.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pitool.catalog.files import make_private, path_kind
from pitool.errors import BadInput, DoesNotFit, PitoolError, cannot_write

_SIDES = ("-wal", "-shm")  # what SQLite keeps beside a database


@dataclass(frozen=True, slots=True)
class StoredData:
    """A database: its file below ``home``, what it holds, and the newest schema that is known."""

    file_name: str
    holds: str
    schema: int

    def check_version(self, found: int) -> None:
        """Raise BadInput for the database of a newer pitool: writing to it could lose data."""
        if found > self.schema:
            raise BadInput(
                f"the {self.holds} have schema version {found}, and this pitool supports up to"
                f" {self.schema}",
                "update pitool",
            )


CONVERSATIONS = StoredData("conversations.db", "conversations", 2)
BENCHMARKS = StoredData("bench.sqlite", "benchmark results", 2)
DATABASES = (CONVERSATIONS, BENCHMARKS)


def connect(path: Path, **options: Any) -> sqlite3.Connection:
    """Open a database, made if missing; it and what SQLite keeps beside it are the user's alone."""
    make_private(path)
    for side in _SIDES:
        beside = path.with_name(path.name + side)
        if path_kind(beside) == "file":
            make_private(beside)
    return _readable(sqlite3.connect(path, **options))


def _readable(opened: sqlite3.Connection) -> sqlite3.Connection:
    """Have what another program wrote and is no UTF-8 replaced."""
    opened.text_factory = lambda data: data.decode("utf-8", "replace")
    return opened


def move_away(path: Path) -> str:
    """Return the command of the shell that moves a database out of the way, with all it is of."""
    return f'for f in \'{path}\'*; do mv "$f" "$f.damaged"; done'


@contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Turn all errors of SQLite and the disk into PitoolErrors."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _pitool_error(path, error) from None
    except sqlite3.Error as error:
        raise _cannot(path, error) from None
    except UnicodeDecodeError as error:  # of a complaint of sqlite3 that quotes the file
        raise _damaged(path, error) from None
    except (FileExistsError, NotADirectoryError):
        raise BadInput(
            f"{path.parent} cannot be a folder, because a file is in its place",
            "remove the file, or set PITOOL_HOME to a folder",
        ) from None
    except OSError as error:
        raise cannot_write(path, error, "check its permissions") from None


def _pitool_error(path: Path, error: sqlite3.DatabaseError) -> PitoolError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return PitoolError(f"{path} is in use by another program", "try again")
    if code == sqlite3.SQLITE_FULL:
        return DoesNotFit(f"cannot write to {path} (the disk is full)", "free some space")
    refused = isinstance(error, sqlite3.OperationalError) and code in _REFUSED
    if refused or isinstance(error, sqlite3.ProgrammingError):
        return _cannot(path, error)
    return _damaged(path, error)


# What the disk or the system refuses; any other fault lies in the file itself.
_REFUSED = {
    0,  # of Python's module, not of SQLite
    sqlite3.SQLITE_AUTH, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY,
}  # fmt: skip


def _damaged(path: Path, error: Exception) -> BadInput:
    return BadInput(f"{path} is damaged ({error})", "run pitool doctor for the way to a new one")


def _cannot(path: Path, error: Exception) -> PitoolError:
    return PitoolError(
        f"cannot access {path} ({error})", "check the free disk space and the file permissions"
    )


def examine(path: Path, kind: StoredData) -> PitoolError | None:
    """Return what is wrong with a database, looked at without changing it; None if nothing is."""
    try:
        with (
            database_errors(path),
            closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as opened,
        ):
            found = _readable(opened)
            kind.check_version(found.execute("PRAGMA user_version").fetchone()[0])
            said = found.execute("PRAGMA quick_check(1)").fetchone()[0]
    except PitoolError as error:
        return error
    return None if said == "ok" else BadInput(f"{path} is damaged ({said})", "")

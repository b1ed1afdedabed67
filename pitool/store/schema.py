"""The tables of the conversations' database and how an older one becomes a newer one.

``PRAGMA user_version`` counts the migrations that a database has had. A new one is appended;
those that were released are never changed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from pitool.errors import BadInput

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE conversation (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        key TEXT NOT NULL UNIQUE,
        title TEXT NOT NULL,
        system TEXT NOT NULL,
        data TEXT NOT NULL,     -- JSON: sampling, dropped
        updated REAL NOT NULL   -- seconds since 1970
    );
    CREATE TABLE row (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        key TEXT NOT NULL UNIQUE,
        conversation TEXT NOT NULL REFERENCES conversation(key) ON DELETE CASCADE,
        kind TEXT NOT NULL CHECK (kind IN ('question', 'answer', 'notice')),
        text TEXT NOT NULL,
        data TEXT NOT NULL      -- JSON: what else the kind has
    );
    CREATE INDEX row_conversation ON row(conversation, id);
    CREATE INDEX conversation_updated ON conversation(updated);
    """,
)


def migrate(connection: sqlite3.Connection, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Bring a database up to date, each step whole or not at all.

    BadInput when it is of a newer pitool: writing to it could lose what that one knows.
    """
    if _version(connection) == len(migrations):
        return
    # Of two programs that start at once, the second waits here and then finds it done.
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)
        _refuse_newer(version, len(migrations))
        for number in range(version, len(migrations)):
            for statement in migrations[number].split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _refuse_newer(version: int, known: int) -> None:
    if version > known:
        raise BadInput(
            f"the conversations are of schema {version}, this pitool knows {known}",
            "update pitool",
        )


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])

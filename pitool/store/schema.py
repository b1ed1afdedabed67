"""The tables of the conversation database, and its migrations.

``PRAGMA user_version`` counts the migrations that a database has had. New ones are appended;
released ones are never changed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from pitool.catalog.databases import CONVERSATIONS

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
        data TEXT NOT NULL      -- JSON: the other fields of the kind
    );
    CREATE INDEX row_conversation ON row(conversation, id);
    CREATE INDEX conversation_updated ON conversation(updated);
    """,
    """
    ALTER TABLE conversation ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;
    -- Seconds since 1970 at which it was put into the trash, NULL where it was not.
    ALTER TABLE conversation ADD COLUMN deleted REAL;
    -- Whether it is of a variant that the conversation does not go on with.
    ALTER TABLE row ADD COLUMN aside INTEGER NOT NULL DEFAULT 0
    """,
)


def migrate(connection: sqlite3.Connection, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Bring a database up to date, all migrations or none.

    BadInput for the database of a newer pitool, since writing to it could lose data.
    """
    if _version(connection) == len(migrations):
        return
    # If two programs start at once, the second waits here and then finds the work done.
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)
        CONVERSATIONS.check_version(version)
        for number in range(version, len(migrations)):
            for statement in migrations[number].split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])

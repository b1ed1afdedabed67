"""Conversations in SQLite: list, open, save, search and delete, from several programs at once.

Rows have random keys, so writing one twice changes nothing and two programs never overwrite each
other's. Every commit is synced: what was saved survives a power cut.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pitool.catalog import databases
from pitool.catalog.databases import CONVERSATIONS, database_errors
from pitool.engine.base import Sampling, Timings
from pitool.errors import BadInput
from pitool.store import schema
from pitool.store.conversation import (
    Answer,
    Conversation,
    ConversationRow,
    Notice,
    Question,
    title_of,
)

FILE_NAME = CONVERSATIONS.file_name
BUSY_SECONDS = 10
EXCERPT_LENGTH = 60


@dataclass(frozen=True, slots=True)
class ConversationSummary:
    """A conversation in a list; ``updated``: seconds since 1970; ``excerpt``: the search match."""

    key: str
    name: str
    updated: float
    questions: int
    excerpt: str = ""


class Database:
    """The file of all conversations; safe to call from several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        with database_errors(path):
            self._connection = databases.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                self._connection.execute(f"PRAGMA {pragma}")
            # SQLite's own comparison folds the case of ASCII only.
            self._connection.create_function("casefold", 1, str.casefold, deterministic=True)
            schema.migrate(self._connection)

    def save(
        self, conversation: Conversation, rows: Iterable[ConversationRow], gone: Iterable[str]
    ) -> None:
        """Write the new and changed rows of a conversation; ``gone``: keys of removed rows.

        A conversation that another program has deleted meanwhile is written again in full.
        """
        head = (
            conversation.key,
            conversation.title,
            conversation.system,
            json.dumps(
                {"sampling": asdict(conversation.sampling), "dropped": conversation.dropped}
            ),
            time.time(),
        )
        with self._transaction() as connection:
            known = connection.execute(
                "SELECT 1 FROM conversation WHERE key = ?", (conversation.key,)
            ).fetchone()
            connection.execute(_SAVE_CONVERSATION, head)
            connection.executemany("DELETE FROM row WHERE key = ?", ((key,) for key in gone))
            connection.executemany(
                _SAVE_ROW,
                (
                    _row_values(row, conversation)
                    for row in (rows if known else list(conversation.rows))
                ),
            )

    def open(self, key: str) -> Conversation:
        """Return a conversation; an answer that was never finished counts as failed.

        Of a row that is damaged the text stays; that it is, the last row says.
        """
        with self._reading() as connection:
            head = connection.execute(
                "SELECT title, system, data FROM conversation WHERE key = ?", (key,)
            ).fetchone()
            found = connection.execute(
                "SELECT key, kind, text, data FROM row WHERE conversation = ? ORDER BY id", (key,)
            ).fetchall()
        if head is None:
            raise BadInput(
                "the conversation no longer exists: another pitool deleted it",
                "open another conversation",
            )
        title, system, data = head
        sampling, dropped, damaged = _head(data)
        rows = []
        for values in found:
            row, whole = _row(*values)
            rows.append(row)
            damaged = damaged or not whole
        if damaged:
            rows.append(Notice("part of this conversation is damaged in the database", _SALVAGED))
        return Conversation(system, rows, title, sampling, min(dropped, len(rows)), key=key)

    def list(self, words: str = "") -> list[ConversationSummary]:
        """Return the conversations, newest first; with ``words`` only those that contain them."""
        with self._reading() as connection:
            found = connection.execute(_LIST, {"words": words.casefold()}).fetchall()
        return [
            ConversationSummary(
                key, title or title_of(first), updated, questions, _excerpt(text, words)
            )
            for key, title, updated, questions, first, text in found
        ]

    def rename(self, key: str, title: str) -> None:
        """Set a conversation's title; an empty one falls back to the first question."""
        with self._transaction() as connection:
            connection.execute("UPDATE conversation SET title = ? WHERE key = ?", (title, key))

    def delete(self, key: str) -> None:
        """Delete a conversation and its rows."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM conversation WHERE key = ?", (key,))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, database_errors(self._path):
            # A transaction that starts as a reader cannot wait for another writer.
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, database_errors(self._path):
            yield self._connection


_SALVAGED = "use /save to write the readable part to a file"


_SAVE_CONVERSATION = """
    INSERT INTO conversation (key, title, system, data, updated) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET system = excluded.system,
        data = excluded.data, updated = excluded.updated
"""
_SAVE_ROW = """
    INSERT INTO row (key, conversation, kind, text, data) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET text = excluded.text, data = excluded.data
"""
_LIST = """
    SELECT key, title, updated,
        (SELECT count(*) FROM row WHERE conversation = c.key AND kind = 'question'),
        coalesce((SELECT text FROM row WHERE conversation = c.key AND kind = 'question'
                  ORDER BY id LIMIT 1), ''),
        coalesce((SELECT text FROM row WHERE conversation = c.key AND kind != 'notice'
                  AND instr(casefold(text), :words) ORDER BY id LIMIT 1), '')
    FROM conversation AS c
    WHERE instr(casefold(title), :words) OR EXISTS (
        SELECT 1 FROM row WHERE conversation = c.key AND kind != 'notice'
        AND instr(casefold(text), :words))
    ORDER BY updated DESC
"""


def _row_values(row: ConversationRow, conversation: Conversation) -> tuple[str, ...]:
    kind, text, data = _parts(row)
    return row.key, conversation.key, kind, text, json.dumps(data)


def _parts(row: ConversationRow) -> tuple[str, str, dict[str, Any]]:
    match row:
        case Question():
            return "question", row.text, {}
        case Notice():
            return "notice", row.what, {"do": row.do}
        case Answer():
            # The chat appends text while this runs, so ``finish`` is read before the text: an
            # answer that is finished has all of it.
            data: dict[str, Any] = {"finish": row.finish, "model": row.model}
            data["reused"] = row.reused
            data["timings"] = asdict(row.timings) if row.timings else None
            return "answer", row.text, data


def _row(key: str, kind: str, text: object, data: str) -> tuple[ConversationRow, bool]:
    """Return a row, and whether all of it could be read."""
    words = text if isinstance(text, str) else ""
    if kind == "question":
        return Question(words, key=key), words is text
    try:
        more = json.loads(data)
        if kind == "notice":
            return Notice(words, more["do"], key=key), words is text
        answer = Answer(more["model"], words, key=key, reused=more["reused"])
        answer.timings = Timings(**more["timings"]) if more["timings"] else None
        answer.finish = more["finish"] or "failed"
    except _UNREADABLE:
        broken = Notice(words, key=key) if kind == "notice" else Answer("", words, key=key)
        if isinstance(broken, Answer):
            broken.finish = "failed"
        return broken, False
    return answer, words is text


def _head(data: str) -> tuple[Sampling, int, bool]:
    """Return the sampling and the dropped rows of a conversation, and whether they are damaged."""
    try:
        values = json.loads(data)
        sampling = values["sampling"]
        return (
            Sampling(**{**sampling, "stop": tuple(sampling["stop"])}),
            int(values["dropped"]),
            False,
        )
    except _UNREADABLE:
        return Sampling(), 0, True


_UNREADABLE = (ValueError, KeyError, TypeError, RecursionError)
"""What JSON that is none, or says something else, ends in."""


def _excerpt(text: str, words: str) -> str:
    """Return the text around the search words, on one line."""
    if not words:
        return ""
    place = max(text.casefold().find(words.casefold()), 0)
    start = max(place - EXCERPT_LENGTH // 3, 0)
    part = " ".join(text[start : start + EXCERPT_LENGTH].split())
    return f"…{part}" if start else part

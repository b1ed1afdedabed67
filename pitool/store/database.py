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
from typing import Any, get_args

from pitool.catalog import databases, reading, tables
from pitool.catalog.databases import CONVERSATIONS, database_errors
from pitool.engine.base import Finish, Sampling, Timings
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
_LATEST = 253402214400.0  # the year 9999, the last that can be shown
# A board's memory is the model's, and the kernel keeps the pages of the file too: 256 KiB.
_PRAGMAS = ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "cache_size = -256")


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
            for pragma in _PRAGMAS:
                self._connection.execute(f"PRAGMA {pragma}")
            # What another program wrote may be no UTF-8.
            self._connection.text_factory = lambda data: data.decode("utf-8", "replace")
            # SQLite's own comparison folds the case of ASCII only.
            self._connection.create_function("casefold", 1, _casefold, deterministic=True)
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
        damaged = damaged or not (isinstance(title, str) and isinstance(system, str))
        rows = []
        for values in found:
            row, whole = _row(*values)
            rows.append(row)
            damaged = damaged or not whole
        if damaged:
            rows.append(Notice("part of this conversation is damaged in the database", _SALVAGED))
        kept = min(dropped, len(rows))
        return Conversation(_text(system), rows, _text(title), sampling, kept, key=key)

    def list(self, words: str = "") -> list[ConversationSummary]:
        """Return the conversations, newest first; with ``words`` only those that contain them."""
        with self._reading() as connection:
            found = connection.execute(_LIST, {"words": words.casefold()}).fetchall()
        return [
            ConversationSummary(
                str(key),
                _text(title) or title_of(_text(first)),
                updated if isinstance(updated, float) and 0 <= updated < _LATEST else 0.0,
                questions,
                _excerpt(_text(text), words),
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


def _casefold(value: object) -> str:
    """Return a text for a comparison; SQLite keeps values of any type in any column."""
    return _text(value).casefold()


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _row(key: object, kind: str, text: object, data: object) -> tuple[ConversationRow, bool]:
    """Return a row, and whether all of it could be read."""
    words, name = _text(text), str(key)
    if kind == "question":
        return Question(words, key=name), words is text
    try:
        more = reading.parse_json(_text(data))
        if kind == "notice":
            return Notice(words, _checked_text(more["do"]), key=name), words is text
        answer = tables.build(_AnswerData, more, "answer")
    except _UNREADABLE:
        if kind == "notice":
            return Notice(words, key=name), False
        return Answer("", words, finish="failed", key=name), False
    finish: Any = answer.finish if answer.finish in _FINISHES else "failed"
    return Answer(
        answer.model, words, answer.timings, finish, answer.reused, key=name
    ), words is text


@dataclass(frozen=True, slots=True)
class _AnswerData:
    """The fields of an answer besides its text, as ``_parts`` writes them."""

    model: str
    reused: int
    finish: str | None = None
    timings: Timings | None = None


@dataclass(frozen=True, slots=True)
class _Head:
    """The fields of a conversation besides its texts, as ``save`` writes them."""

    sampling: Sampling
    dropped: int


_FINISHES = get_args(Finish)


def _checked_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("it is not a text")  # noqa: TRY004 - of a file, not of a caller
    return value


def _head(data: object) -> tuple[Sampling, int, bool]:
    """Return the sampling and the dropped rows of a conversation, and whether they are damaged."""
    try:
        head = tables.build(_Head, reading.parse_json(_text(data)), "conversation")
    except _UNREADABLE:
        return Sampling(), 0, True
    return head.sampling, max(head.dropped, 0), False


_UNREADABLE = (ValueError, LookupError, TypeError, BadInput)
"""What JSON that is none, or says something else, ends in."""


def _excerpt(text: str, words: str) -> str:
    """Return the text around the search words, on one line."""
    if not words:
        return ""
    place = max(text.casefold().find(words.casefold()), 0)
    start = max(place - EXCERPT_LENGTH // 3, 0)
    part = " ".join(text[start : start + EXCERPT_LENGTH].split())
    return f"…{part}" if start else part

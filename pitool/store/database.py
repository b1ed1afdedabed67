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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from pitool.catalog import databases, reading, tables
from pitool.catalog.databases import CONVERSATIONS, database_errors
from pitool.engine.base import Finish, Sampling, Timings
from pitool.errors import BadInput
from pitool.store import schema, variants
from pitool.store.conversation import (
    Answer,
    Conversation,
    ConversationRow,
    Notice,
    Question,
    title_of,
)
from pitool.store.excerpt import sentence

FILE_NAME = CONVERSATIONS.file_name
BUSY_SECONDS = 10
TRASH_DAYS = 30
"""A deleted conversation can be brought back for so long."""

_LATEST = 253402214400.0  # the year 9999, the last that can be shown
# A board's memory is the model's, and the kernel keeps the pages of the file too: 256 KiB.
_PRAGMAS = ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "cache_size = -256")


@dataclass(frozen=True, slots=True)
class ConversationSummary:
    """A conversation in a list; ``updated``: seconds since 1970.

    ``excerpt``: the sentence in which the words of a search were found.
    """

    key: str
    name: str
    updated: float
    questions: int
    excerpt: str = ""
    pinned: bool = False


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

        A conversation that another program has deleted meanwhile is written again in full, and
        comes out of the trash.
        """
        head = (
            conversation.key,
            conversation.title,
            conversation.system,
            json.dumps(
                {
                    "sampling": asdict(conversation.sampling),
                    "dropped": conversation.dropped,
                    "forks": variants.to_json(conversation.forks),
                }
            ),
            time.time(),
        )
        aside = {row.key for row in conversation.aside}
        with self._transaction() as connection:
            known = connection.execute(
                "SELECT 1 FROM conversation WHERE key = ?", (conversation.key,)
            ).fetchone()
            connection.execute(_SAVE_CONVERSATION, head)
            connection.executemany("DELETE FROM row WHERE key = ?", ((key,) for key in gone))
            connection.executemany(
                _SAVE_ROW,
                (
                    _row_values(row, conversation, aside)
                    for row in (rows if known else [*conversation.rows, *conversation.aside])
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
                "SELECT key, kind, text, data, aside FROM row WHERE conversation = ? ORDER BY id",
                (key,),
            ).fetchall()
        if head is None:
            raise BadInput(
                "the conversation no longer exists: another pitool deleted it",
                "open another conversation",
            )
        title, system, data = head
        sampling, dropped, tails, damaged = _head(data)
        damaged = damaged or not (isinstance(title, str) and isinstance(system, str))
        rows, aside = [], {}
        for *values, is_aside in found:
            row, whole = _row(*values)
            if is_aside:
                aside[row.key] = row
            else:
                rows.append(row)
            damaged = damaged or not whole
        if damaged:
            rows.append(Notice("part of this conversation is damaged in the database", _SALVAGED))
        kept = min(dropped, len(rows))
        forks = variants.from_json(tails, aside)
        return Conversation(_text(system), rows, _text(title), sampling, kept, forks, key=key)

    def list(self, words: str = "", *, trash: bool = False) -> list[ConversationSummary]:
        """Return the conversations, the pinned ones first, then newest first.

        With ``words`` only those that contain them; ``trash``: those that were deleted, instead.
        """
        with self._reading() as connection:
            asked = {"words": words.casefold(), "trash": trash}
            found = connection.execute(_LIST, asked).fetchall()
        return [
            ConversationSummary(
                str(key),
                _text(title) or title_of(_text(first)),
                updated if isinstance(updated, float) and 0 <= updated < _LATEST else 0.0,
                questions,
                sentence(_text(text), words),
                bool(pinned),
            )
            for key, title, updated, pinned, questions, first, text in found
        ]

    def newest(self) -> str | None:
        """Return the key of the conversation that was used last; None where there is none."""
        with self._reading() as connection:
            found = connection.execute(_NEWEST).fetchone()
        return str(found[0]) if found else None

    def rename(self, key: str, title: str) -> None:
        """Set a conversation's title; an empty one falls back to the first question."""
        with self._transaction() as connection:
            connection.execute("UPDATE conversation SET title = ? WHERE key = ?", (title, key))

    def pin(self, key: str, pinned: bool) -> None:
        """Have a conversation stand above the others in the list, or not any more."""
        with self._transaction() as connection:
            connection.execute("UPDATE conversation SET pinned = ? WHERE key = ?", (pinned, key))

    def delete(self, key: str) -> None:
        """Put a conversation into the trash."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE conversation SET deleted = ? WHERE key = ?", (time.time(), key)
            )

    def restore(self, key: str) -> None:
        """Bring a conversation back from the trash."""
        with self._transaction() as connection:
            connection.execute("UPDATE conversation SET deleted = NULL WHERE key = ?", (key,))

    def erase(self, key: str) -> None:
        """Delete a conversation and its rows for good."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM conversation WHERE key = ?", (key,))

    def empty_trash(self, days: float = TRASH_DAYS) -> None:
        """Delete for good what has been in the trash for so long."""
        before = time.time() - days * 86400
        with self._transaction() as connection:
            connection.execute("DELETE FROM conversation WHERE deleted < ?", (before,))

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
        data = excluded.data, updated = excluded.updated, deleted = NULL
"""
_SAVE_ROW = """
    INSERT INTO row (key, conversation, kind, text, data, aside) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET text = excluded.text, data = excluded.data,
        aside = excluded.aside
"""
_LIST = """
    SELECT key, title, updated, pinned,
        (SELECT count(*) FROM row WHERE conversation = c.key AND kind = 'question' AND NOT aside),
        coalesce((SELECT text FROM row WHERE conversation = c.key AND kind = 'question'
                  AND NOT aside ORDER BY id LIMIT 1), ''),
        coalesce((SELECT text FROM row WHERE conversation = c.key AND kind != 'notice'
                  AND NOT aside AND instr(casefold(text), :words) ORDER BY id LIMIT 1), '')
    FROM conversation AS c
    WHERE (deleted IS NOT NULL) = :trash AND (instr(casefold(title), :words) OR EXISTS (
        SELECT 1 FROM row WHERE conversation = c.key AND kind != 'notice' AND NOT aside
        AND instr(casefold(text), :words)))
    ORDER BY coalesce(deleted, 0) DESC, pinned DESC, updated DESC
"""
_NEWEST = "SELECT key FROM conversation WHERE deleted IS NULL ORDER BY updated DESC LIMIT 1"


def _row_values(
    row: ConversationRow, conversation: Conversation, aside: set[str]
) -> tuple[str | bool, ...]:
    kind, text, data = _parts(row)
    return row.key, conversation.key, kind, text, json.dumps(data), row.key in aside


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
    forks: dict[str, Any] = field(default_factory=dict)


_FINISHES = get_args(Finish)


def _checked_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("it is not a text")  # noqa: TRY004 - of a file, not of a caller
    return value


def _head(data: object) -> tuple[Sampling, int, dict[str, Any], bool]:
    """Return sampling, dropped rows and forks of a conversation, and whether they are damaged."""
    try:
        head = tables.build(_Head, reading.parse_json(_text(data)), "conversation")
    except _UNREADABLE:
        return Sampling(), 0, {}, True
    return head.sampling, max(head.dropped, 0), head.forks, False


_UNREADABLE = (ValueError, LookupError, TypeError, BadInput)
"""What JSON that is none, or says something else, ends in."""

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

from pitool.engine.base import Sampling, Timings
from pitool.errors import BadInput, PitoolError
from pitool.store import schema
from pitool.store.conversation import Answer, Conversation, Notice, Question, Row, title_of

FILE_NAME = "conversations.db"
BUSY_SECONDS = 10
EXCERPT_LENGTH = 60


@dataclass(frozen=True, slots=True)
class Summary:
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
        with _pitool_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                self._connection.execute(f"PRAGMA {pragma}")
            # SQLite's own comparison folds the case of ASCII only.
            self._connection.create_function("casefold", 1, str.casefold, deterministic=True)
            schema.migrate(self._connection)

    def save(self, conversation: Conversation, rows: Iterable[Row], gone: Iterable[str]) -> None:
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
        """Return a conversation; an answer that was never finished counts as failed."""
        with self._reading() as connection:
            head = connection.execute(
                "SELECT title, system, data FROM conversation WHERE key = ?", (key,)
            ).fetchone()
            found = connection.execute(
                "SELECT key, kind, text, data FROM row WHERE conversation = ? ORDER BY id", (key,)
            ).fetchall()
        if head is None:
            raise BadInput(
                "the conversation no longer exists: another pitool deleted it", "choose another"
            )
        title, system, data = head[0], head[1], json.loads(head[2])
        rows = [_row(*values) for values in found]
        return Conversation(
            system, rows, title, _sampling(data["sampling"]), data["dropped"], key=key
        )

    def list(self, words: str = "") -> list[Summary]:
        """Return the conversations, newest first; with ``words`` only those that contain them."""
        with self._reading() as connection:
            found = connection.execute(_LIST, {"words": words.casefold()}).fetchall()
        return [
            Summary(key, title or title_of(first), updated, questions, _excerpt(text, words))
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
        with self._lock, _pitool_errors(self._path):
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
        with self._lock, _pitool_errors(self._path):
            yield self._connection


@contextmanager
def _pitool_errors(path: Path) -> Iterator[None]:
    """Turn errors of SQLite and the disk into PitoolErrors."""
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        raise PitoolError(
            f"cannot access {path} ({error})", "check the free disk space and the file permissions"
        ) from None
    except sqlite3.DatabaseError as error:
        raise BadInput(f"{path} is damaged ({error})", "move it away to start a new one") from None


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


def _row_values(row: Row, conversation: Conversation) -> tuple[str, ...]:
    kind, text, data = _parts(row)
    return row.key, conversation.key, kind, text, json.dumps(data)


def _parts(row: Row) -> tuple[str, str, dict[str, Any]]:
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


def _row(key: str, kind: str, text: str, data: str) -> Row:
    more: dict[str, Any] = json.loads(data)
    match kind:
        case "question":
            return Question(text, key=key)
        case "notice":
            return Notice(text, more["do"], key=key)
        case _:
            timings = Timings(**more["timings"]) if more["timings"] else None
            answer = Answer(more["model"], text, timings, more["finish"], more["reused"], key=key)
            answer.finish = answer.finish or "failed"
            return answer


def _sampling(values: dict[str, Any]) -> Sampling:
    return Sampling(**{**values, "stop": tuple(values["stop"])})


def _excerpt(text: str, words: str) -> str:
    """Return the text around the search words, on one line."""
    if not words:
        return ""
    place = max(text.casefold().find(words.casefold()), 0)
    start = max(place - EXCERPT_LENGTH // 3, 0)
    part = " ".join(text[start : start + EXCERPT_LENGTH].split())
    return f"…{part}" if start else part

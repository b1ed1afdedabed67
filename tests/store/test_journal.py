"""What is written, when, and what happens when it cannot be."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from pitool.errors import PitoolError
from pitool.store.conversation import Answer, Conversation, ConversationRow, Question
from pitool.store.database import Database
from pitool.store.journal import Journal


class Full(Database):
    """A disk that is full for the first writes."""

    def __init__(self, path: Path, failures: int) -> None:
        super().__init__(path)
        self.failures, self.saves = failures, 0
        self.saved = threading.Event()

    def save(
        self, conversation: Conversation, rows: Iterable[ConversationRow], gone: Iterable[str]
    ) -> None:
        self.saves += 1
        self.saved.set()
        if self.failures:
            self.failures -= 1
            raise PitoolError("the disk is full", "free some")
        super().save(conversation, rows, gone)


def test_a_flood_is_written_once(tmp_path: Path) -> None:
    database = Full(tmp_path / "c.db", 0)
    journal = Journal(database, lambda _: None, seconds=60)
    answer = Answer("m")
    made = Conversation(rows=[Question("a"), answer])
    journal.put(made, *made.rows)
    assert database.saved.wait(120)
    for word in range(500):
        answer.text += f"{word} "
        journal.put(made, answer)
    journal.close()
    assert database.saves == 2
    opened = database.open(made.key).last_answer()
    assert opened is not None
    assert opened.text == answer.text


def test_a_full_disk_is_said_once_and_nothing_is_lost(tmp_path: Path) -> None:
    database, said = Full(tmp_path / "c.db", 3), list[PitoolError]()
    journal = Journal(database, said.append, seconds=0)
    made = Conversation(rows=[Question("a")])
    journal.put(made, *made.rows)
    journal.flush()
    journal.flush()
    journal.flush()
    made.rows.append(Question("b"))
    journal.put(made, made.rows[-1])
    journal.close()
    assert [error.what for error in said] == ["the disk is full"]
    assert database.open(made.key).rows == [Question("a"), Question("b")]


def test_removed_before_and_after_it_was_written(tmp_path: Path) -> None:
    database = Database(tmp_path / "c.db")
    journal = Journal(database, lambda _: None, seconds=60)
    made = Conversation(rows=[Question("a"), Question("b"), Question("c")])
    journal.put(made, *made.rows[:2])
    journal.flush()
    journal.put(made, made.rows[2])
    journal.remove(made, made.cut(made.rows[1]))
    journal.close()
    assert database.open(made.key).rows == [Question("a")]


def test_forgotten_is_not_written(tmp_path: Path) -> None:
    database = Full(tmp_path / "c.db", 0)
    journal = Journal(database, lambda _: None, seconds=60)
    first, second = Conversation(rows=[Question("a")]), Conversation(rows=[Question("b")])
    journal.put(first, *first.rows)
    assert database.saved.wait(120)
    journal.put(second, *second.rows)
    with journal.forgetting(second.key):
        journal.put(second, *second.rows)  # an answer that was still being written
    journal.put(second, *second.rows)
    journal.close()
    assert [summary.key for summary in database.list()] == [first.key]


def test_a_conversation_that_could_not_be_deleted_is_written_as_before(tmp_path: Path) -> None:
    database = Database(tmp_path / "c.db")
    journal = Journal(database, lambda _: None, seconds=60)
    made = Conversation(rows=[Question("a")])
    database.save(made, made.rows, ())
    made.rows.append(Question("b"))
    journal.put(made, made.rows[1])

    def refuse() -> None:
        with journal.forgetting(made.key):
            raise PitoolError("the database is in use")

    with pytest.raises(PitoolError):
        refuse()
    made.rows.append(Question("c"))
    journal.put(made, made.rows[2])
    journal.close()
    assert database.open(made.key).rows == made.rows

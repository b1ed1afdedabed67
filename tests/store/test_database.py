"""The database, looked at by plain SQLite from outside, and by several programs at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pitool.engine.base import Sampling, Timings
from pitool.errors import BadInput, PitoolError
from pitool.store import schema
from pitool.store.conversation import Answer, Conversation, ConversationRow, Notice, Question
from pitool.store.database import Database


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "conversations.db"


def whole() -> Conversation:
    answer = Answer("Leaf Q4_0", "# Grün\n\ncode", Timings(9, 1, 9, 0.5, 0.6, 3, 0.2), "length", 7)
    rows: list[ConversationRow] = [Question("Why is\nit 100 %_\\ green?"), answer]
    rows.append(Notice("it broke", "ask again"))
    return Conversation("Be brief.", rows, "", Sampling(0.1, seed=4, stop=("x",)), 0)


def save(database: Database, conversation: Conversation) -> None:
    database.save(conversation, conversation.rows, ())


def test_what_is_saved_is_opened(path: Path) -> None:
    made = whole()
    database = Database(path)
    save(database, made)
    database.close()
    opened = Database(path).open(made.key)
    assert opened == made
    assert [row.key for row in opened.rows] == [row.key for row in made.rows]


def test_plain_sqlite_reads_it(path: Path) -> None:
    database = Database(path)
    save(database, whole())
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    found = connection.execute("SELECT kind, text FROM row ORDER BY id").fetchall()
    assert found[1:] == [("answer", "# Grün\n\ncode"), ("notice", "it broke")]


def test_saving_again_changes_the_row_and_adds_none(path: Path) -> None:
    database, made = Database(path), whole()
    save(database, made)
    answer = made.last_answer()
    assert answer is not None
    answer.text += " more"
    database.save(made, [answer], ())
    assert [getattr(row, "text", "") for row in database.open(made.key).rows][1].endswith("more")
    assert len(database.open(made.key).rows) == 3


def test_an_answer_that_was_never_finished_counts_as_broken_off(path: Path) -> None:
    database = Database(path)
    made = Conversation(rows=[Question("a"), Answer("m", "half")])
    save(database, made)
    assert database.open(made.key).last_answer() == Answer("m", "half", finish="failed")


def test_list_search_rename_delete(path: Path) -> None:
    database, made = Database(path), whole()
    other = Conversation(rows=[Question("Something else")])
    save(database, made)
    save(database, other)
    assert [s.name for s in database.list()] == ["Something else", "Why is"]
    assert [s.key for s in database.list("GRÜN")] == [made.key]
    assert [s.key for s in database.list("100 %_\\")] == [made.key]
    assert database.list("100 %%") == []
    assert database.list("GREEN")[0].excerpt == "it 100 %_\\ green?"
    assert database.list("it broke") == []  # notices are not what anybody looks for
    database.rename(made.key, "Colours")
    save(database, made)  # of a program that does not know of the new title
    assert [s.name for s in database.list("colou")] == ["Colours"]
    assert database.open(made.key).title == "Colours"
    database.erase(made.key)
    assert [s.key for s in database.list()] == [other.key]
    with pytest.raises(BadInput, match="the conversation no longer exists"):
        database.open(made.key)
    count = sqlite3.connect(path).execute("SELECT count(*) FROM row").fetchone()
    assert count == (1,)


def test_what_is_deleted_stays_in_the_trash_for_a_month(path: Path) -> None:
    database, made, other = Database(path), whole(), Conversation(rows=[Question("Other")])
    save(database, made)
    save(database, other)
    database.delete(made.key)
    assert [s.key for s in database.list()] == [other.key]
    assert [s.key for s in database.list(trash=True)] == [made.key]
    assert database.newest() == other.key
    assert database.open(made.key) == made
    database.restore(made.key)
    assert database.list(trash=True) == []
    assert {s.key for s in database.list()} == {made.key, other.key}
    database.delete(made.key)
    database.empty_trash()
    assert [s.key for s in database.list(trash=True)] == [made.key]
    connection = sqlite3.connect(path)
    connection.execute("UPDATE conversation SET deleted = deleted - 31 * 86400")
    connection.commit()
    database.empty_trash()
    assert database.list(trash=True) == []
    assert [s.key for s in database.list()] == [other.key]
    assert connection.execute("SELECT count(*) FROM row").fetchone() == (1,)


def test_what_is_pinned_stands_above(path: Path) -> None:
    database, old, new = Database(path), whole(), Conversation(rows=[Question("New")])
    save(database, old)
    save(database, new)
    database.pin(old.key, True)
    assert [(s.key, s.pinned) for s in database.list()] == [(old.key, True), (new.key, False)]
    assert database.newest() == new.key
    save(database, old)  # a program that writes it leaves the pin
    database.pin(old.key, False)
    save(database, new)
    assert [s.key for s in database.list()] == [new.key, old.key]


def test_variants_are_kept_apart_from_what_was_chosen(path: Path) -> None:
    database = Database(path)
    made = Conversation(rows=[Question("A fruit?"), Answer("m", "apple", finish="stop")])
    aside = made.set_aside(made.rows[1])
    made.rows.append(Answer("m", "pear", finish="stop"))
    database.save(made, [*aside, *made.rows], ())
    opened = Database(path).open(made.key)
    assert opened == made
    assert [getattr(row, "text", "") for row in opened.rows] == ["A fruit?", "pear"]
    assert opened.variant(opened.rows[1]) == (2, 2)
    assert (database.list("apple"), database.list()[0].questions) == ([], 1)
    changed = opened.turn(opened.rows[1], 1)
    database.save(opened, changed, ())
    again = Database(path).open(made.key)
    assert [getattr(row, "text", "") for row in again.rows] == ["A fruit?", "apple"]
    assert again.variant(again.rows[1]) == (1, 2)
    assert [s.key for s in database.list("apple")] == [made.key]


def test_damaged_forks_cost_the_variants_only(path: Path) -> None:
    database = Database(path)
    made = Conversation(rows=[Question("A fruit?"), Answer("m", "apple", finish="stop")])
    made.set_aside(made.rows[1])
    made.rows.append(Answer("m", "pear", finish="stop"))
    save(database, made)
    connection = sqlite3.connect(path)
    for forks in ('{"x": 1}', '{"x": {"place": "y", "tails": 3}}', '{"x": {"place": 9}}'):
        data = '{"sampling": {}, "dropped": 0, "forks": ' + forks + "}"
        connection.execute("UPDATE conversation SET data = ?", (data,))
        connection.commit()
        assert [getattr(r, "text", "") for r in database.open(made.key).rows][:1] == ["A fruit?"]


def test_a_file_of_the_first_schema_is_still_read(path: Path) -> None:
    """Written by hand, as the first version of pitool did."""
    path.parent.mkdir()
    old = sqlite3.connect(path)
    old.executescript(schema.MIGRATIONS[0])
    old.execute("PRAGMA user_version = 1")
    data = '{"sampling": {"temperature": 0.5}, "dropped": 0}'
    old.execute(
        "INSERT INTO conversation (key, title, system, data, updated) VALUES (?, ?, ?, ?, ?)",
        ("k", "Old", "Be brief.", data, 1.7e9),
    )
    old.execute(
        "INSERT INTO row (key, conversation, kind, text, data) VALUES ('q', 'k', 'question', ?, ?)",
        ("Still there?", "{}"),
    )
    old.commit()
    old.close()
    database = Database(path)
    (found,) = database.list()
    assert (found.name, found.pinned, found.questions) == ("Old", False, 1)
    opened = database.open("k")
    assert (opened.system, opened.sampling.temperature) == ("Be brief.", 0.5)
    assert opened.rows == [Question("Still there?")]
    database.delete("k")
    assert database.list() == []


def test_a_conversation_deleted_by_another_program_is_written_again_as_a_whole(
    path: Path,
) -> None:
    one, two, made = Database(path), Database(path), whole()
    save(one, made)
    two.erase(made.key)
    made.rows.append(Question("And now?"))
    one.save(made, made.rows[-1:], ())
    assert len(two.open(made.key).rows) == 4


def test_removed_rows_are_gone(path: Path) -> None:
    database, made = Database(path), whole()
    save(database, made)
    removed = made.cut(made.rows[1])
    database.save(made, [], [row.key for row in removed])
    assert database.open(made.key).rows == made.rows == [Question("Why is\nit 100 %_\\ green?")]


def test_a_newer_schema_is_refused(path: Path) -> None:
    Database(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(
        BadInput, match="schema version 99, and this pitool supports up to 2: update"
    ):
        Database(path)


def test_migrations_keep_what_is_there(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    steps = ("CREATE TABLE a (n INTEGER); INSERT INTO a VALUES (7)", "ALTER TABLE a ADD m TEXT")
    schema.migrate(connection, steps[:1])
    schema.migrate(connection, steps)
    assert connection.execute("SELECT n, m FROM a").fetchall() == [(7, None)]
    schema.migrate(connection, steps)


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    with pytest.raises(sqlite3.OperationalError):
        schema.migrate(connection, ("CREATE TABLE a (n INTEGER); NONSENSE",))
    assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    assert connection.execute("PRAGMA user_version").fetchone() == (0,)


def test_a_file_that_is_no_database(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, but long enough to be looked at" * 40)
    with pytest.raises(BadInput, match=r"is damaged .*pitool doctor"):
        Database(path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PitoolError, match="cannot be a folder, because a file is in its place"):
        Database(tmp_path / "file" / "conversations.db")


def write_many(path: Path, name: str, count: int) -> None:
    database = Database(path)
    conversation = Conversation()
    for number in range(count):
        conversation.rows.append(Question(f"{name} {number}"))
        database.save(conversation, conversation.rows[-1:], ())
    database.close()


def test_several_programs_at_once(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(path, name, 25)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    database = Database(path)
    found = [database.open(summary.key).rows for summary in database.list()]
    texts = [[row.text for row in rows if isinstance(row, Question)] for rows in found]
    assert sorted(texts) == [[f"{name} {n}" for n in range(25)] for name in "abc"]
    check = sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone()
    assert check == ("ok",)


GROWING = """
import sys, time
from pathlib import Path
from pitool.store.conversation import Answer, Conversation, Question
from pitool.store.database import Database
from pitool.store.journal import Journal

answer = Answer("m")
conversation = Conversation(rows=[Question("Count"), answer])
journal = Journal(Database(Path(sys.argv[1])), print, seconds=0.05)
journal.put(conversation, *conversation.rows)
for number in range(100_000):
    answer.text += f"{number} "
    journal.put(conversation, answer)
    time.sleep(0.001)
"""


def test_kill_9_in_the_middle_of_an_answer(path: Path) -> None:
    program = subprocess.Popen([sys.executable, "-c", GROWING, str(path)])
    try:
        database = Database(path)
        while not (found := database.list()) or len(texts(database, found[0].key)) < 100:
            assert program.poll() is None
            time.sleep(0.01)
        before = texts(database, found[0].key)
    finally:
        os.kill(program.pid, signal.SIGKILL)
        program.wait()
    after = texts(Database(path), found[0].key)
    assert after.startswith(before)
    assert after.split() == [str(n) for n in range(len(after.split()))]


def texts(database: Database, key: str) -> str:
    answer = database.open(key).last_answer()
    return answer.text if answer else ""


def test_a_database_that_is_in_use_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pitool.store.database.BUSY_SECONDS", 0.01)
    database, made = Database(path), whole()
    save(database, made)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(PitoolError, match=r"conversations\.db is in use .*: try again"):
        database.delete(made.key)
    other.execute("ROLLBACK")
    database.delete(made.key)
    assert database.list() == []


def test_a_closed_database_is_not_called_damaged(path: Path) -> None:
    database = Database(path)
    database.close()
    with pytest.raises(PitoolError, match="cannot access") as refused:
        database.list()
    assert "damaged" not in str(refused.value)


@pytest.mark.parametrize("data", ["{", "[]", "null", '{"finish": 1}', '{"timings": {"x": 1}}'])
def test_what_can_be_read_of_a_damaged_row_is_shown(path: Path, data: str) -> None:
    database, made = Database(path), whole()
    save(database, made)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE row SET data = ? WHERE kind != 'question'", (data,))
        connection.execute("UPDATE conversation SET data = ?", (data,))
    opened = database.open(made.key)
    assert opened.sampling == Sampling()
    assert opened.rows[0] == made.rows[0]
    texts = [getattr(row, "text", "") or getattr(row, "what", "") for row in opened.rows]
    assert texts[1:3] == ["# Grün\n\ncode", "it broke"]
    assert "is damaged in the database" in texts[3]

"""Slash commands without a screen: the table, and what its handlers do to a session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pitool.catalog.bundles import Runnable
from pitool.chat import commands
from pitool.chat.commands import COMMANDS, Command, CommandHandlers, as_question
from pitool.chat.session import Session
from pitool.chat.tasks import TasksAtOnce
from pitool.errors import UsageError
from pitool.store.conversation import Answer, Question

from .helpers import Loader, Tracked


class Told(CommandHandlers):
    """Writes down what is said."""

    def __init__(self, session: Session, table: Sequence[Command] = COMMANDS) -> None:
        super().__init__(session, lambda: ([], []), table)
        self.said: list[str] = []
        self.tables: dict[str, Sequence[tuple[str, str]]] = {}

    def say(self, text: str) -> None:
        self.said.append(text)

    def show_table(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        self.tables[title] = rows


@pytest.fixture
def told(make_session: Callable[..., Session], runnable: Runnable) -> Told:
    engine = Tracked(["first", "second", "third"])
    session = make_session(Loader(engine), tasks=TasksAtOnce)
    session.load(runnable)
    return Told(session)


def texts(session: Session) -> list[str]:
    return [row.text for row in session.conversation.rows if isinstance(row, Question | Answer)]


def test_no_two_commands_have_one_name() -> None:
    assert len({command.name for command in COMMANDS}) == len(COMMANDS)


def test_what_needs_a_screen_is_not_there_without_one(told: Told) -> None:
    names = [command.name for command in told.table]
    assert {"help", "system", "set", "again", "continue", "clear", "save"} <= set(names)
    assert not {"edit", "think", "copy", "stop", "rename", "delete"} & set(names)
    with pytest.raises(UsageError, match="unknown command /think"):
        told.do("/think")


def test_a_command_is_one_row_and_what_does_it(told: Told) -> None:
    class More(Told):
        def do_shout(self, words: str) -> None:
            self.say(words.upper())

    more = More(told.session, (*COMMANDS, Command("shout", "WORDS", "say it loudly")))
    more.do("/shout hello you")
    assert more.said == ["HELLO YOU"]
    more.do("/help")
    assert ("/shout WORDS", "say it loudly") in next(iter(more.tables.values()))


def test_questions_and_commands_on_one_conversation(told: Told) -> None:
    session = told.session
    assert session.ask("one")
    assert texts(session) == ["one", "first"]  # done when it returns
    told.do("/again")
    assert texts(session) == ["one", "second"]
    told.do("/continue")
    assert told.said == ["The last answer is already complete."]
    told.do("/system Be brief.")
    told.do("/set temperature 0.25")
    assert session.conversation.system == "Be brief."
    assert session.conversation.sampling.temperature == 0.25
    told.do("/clear")
    assert session.conversation.rows == []
    with pytest.raises(UsageError, match="nothing to save yet"):
        told.do("/save")


def test_save_replaces_nothing(told: Told, tmp_path: Path) -> None:
    told.session.ask("one")
    told.do(f"/save {tmp_path / 'a.md'}")
    assert "## Question\n\none" in (tmp_path / "a.md").read_text()
    with pytest.raises(UsageError, match="already exists: choose another file"):
        told.do(f"/save {tmp_path / 'a.md'}")


def test_attach_goes_with_the_next_question(told: Told, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("seven\n")
    told.do(f"/attach {tmp_path / 'notes.txt'}")
    assert told.with_attachment("How many?") == "notes.txt:\n\n```\nseven\n```\n\nHow many?"


def test_a_model_without_a_name_says_what_there_is(told: Told) -> None:
    with pytest.raises(UsageError, match="/model needs a name"):
        told.do("/model")


def test_a_double_slash_asks() -> None:
    assert as_question("//etc/fstab?") == "/etc/fstab?"
    assert as_question("plain") == "plain"
    assert not commands.is_command("//etc")

"""What the database, the disk and other programs do to a screen becomes a notice."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from textual.app import ComposeResult
from textual.binding import Binding
from textual.pilot import Pilot
from textual.widgets import Button, Static

from pitool.catalog.bundles import Runnable
from pitool.chat.status import Phase
from pitool.errors import BadInput, PitoolError
from pitool.store.conversation import Answer, Conversation, Question
from pitool.store.database import Database
from pitool.tui.app import PitoolApp
from pitool.tui.screens import ScreenEntry
from pitool.tui.screens.base import BaseScreen, fault
from pitool.tui.screens.chat import ChatScreen
from pitool.tui.screens.chats import ChatsScreen
from pitool.tui.widgets.notice import NoticeLine
from tests.chat.helpers import Loader, Tracked, settled, until

from .helpers import said, shown, type_in

SIZE = (100, 30)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("pitool.store.database.BUSY_SECONDS", 0.05)
    return tmp_path / "c.db"


def app_on(path: Path, runnable: Runnable) -> PitoolApp:
    return PitoolApp(
        load=Loader(Tracked()),
        bundles=lambda: ([], []),
        memory=lambda _: None,
        runnable=runnable,
        database=Database(path),
    )


def put(path: Path, question: str = "apples") -> str:
    database = Database(path)
    made = Conversation(rows=[Question(question), Answer("m", "red ones", finish="stop")])
    database.save(made, made.rows, ())
    database.close()
    return made.key


async def to_chats(app: PitoolApp, pilot: Pilot[None]) -> None:
    await until(lambda: app.session.status.phase is Phase.READY)
    await until(lambda: isinstance(app.screen, ChatScreen) and "Ready." in shown(app))
    await pilot.press("f3")
    await until(lambda: isinstance(app.screen, ChatsScreen) and "apples" in shown(app))


async def is_told(app: PitoolApp, text: str) -> None:
    await until(lambda: text in said(app))


async def test_deleting_while_another_program_holds_the_database(
    path: Path, runnable: Runnable
) -> None:
    put(path)
    app = app_on(path, runnable)
    other = sqlite3.connect(path, isolation_level=None)
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await to_chats(app, pilot)
        other.execute("BEGIN EXCLUSIVE")
        await pilot.press("d", "right", "enter")
        await is_told(app, "is in use by another program; try again.")
        assert "apples" in shown(app)
        other.execute("ROLLBACK")
        await pilot.press("d", "right", "enter")
        await until(lambda: "No conversations yet." in shown(app))
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, ChatScreen))


async def test_the_open_conversation_stays_when_it_cannot_be_deleted(
    path: Path, runnable: Runnable
) -> None:
    app = app_on(path, runnable)
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await until(lambda: app.session.status.phase is Phase.READY)
        await until(lambda: isinstance(app.screen, ChatScreen) and "Ready." in shown(app))
        await say(app, pilot, "pears")
        assert app.journal is not None
        app.journal.flush()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        type_in(app, "/delete")
        await pilot.press("enter")
        await is_told(app, "is in use by another program")
        other.execute("ROLLBACK")
        await say(app, pilot, "plums")
    database = Database(path)
    rows = database.open(database.list()[0].key).rows
    assert [row.text for row in rows if isinstance(row, Question)] == ["pears", "plums"]


async def say(app: PitoolApp, pilot: Pilot[None], text: str) -> None:
    type_in(app, text)
    await pilot.press("enter")
    if text.startswith("/"):
        await until(lambda: not isinstance(app.screen, ChatScreen))
    else:
        await until(lambda: f"'{text}'" in str(app.session.conversation.rows))
        await until(lambda: settled(app.session))


async def test_what_another_program_deleted_can_be_neither_exported_nor_opened(
    path: Path, runnable: Runnable
) -> None:
    key = put(path)
    app = app_on(path, runnable)
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await to_chats(app, pilot)
        other = Database(path)
        other.erase(key)
        other.close()
        await pilot.press("e")
        await is_told(app, "the conversation no longer exists: another pitool deleted it")
        assert isinstance(app.screen, ChatsScreen)
        app.screen.query_one(NoticeLine).clear()
        await pilot.press("enter")
        await is_told(app, "the conversation no longer exists: another pitool deleted it")
        assert isinstance(app.screen, ChatsScreen)


async def test_a_damaged_row_is_opened_as_far_as_it_can_be_read(
    path: Path, runnable: Runnable
) -> None:
    put(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE row SET data = '{' WHERE kind = 'answer'")
    app = app_on(path, runnable)
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await to_chats(app, pilot)
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, ChatScreen) and "red ones" in shown(app))
        await until(lambda: "is damaged in the database" in shown(app))


class Faulty(BaseScreen[None]):
    """Fails in each of the ways in which a screen does something."""

    BINDINGS = [Binding("a", "fail", "Fail")]  # noqa: RUF012 - as Textual's documentation writes it

    def __init__(self, context, words: str = "") -> None:  # type: ignore[no-untyped-def]
        super().__init__(context)
        self.words = words

    def compose(self) -> ComposeResult:
        yield Static(f"the screen from outside: {self.words}")
        yield Button("Press")

    def action_fail(self) -> None:
        raise PitoolError("the action failed", "do [b]it[/b] again")

    def on_button_pressed(self) -> None:
        raise sqlite3.OperationalError("the handler failed")

    def later(self) -> None:
        async def work() -> None:
            raise OSError(28, "No space left on device", "/a/file")

        self.run_worker(work())


async def test_actions_handlers_and_workers_end_in_notices(
    runnable: Runnable, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = ScreenEntry("faulty", "not:imported", "Faulty", "fails", "f6")
    monkeypatch.setattr(ScreenEntry, "load", lambda _: Faulty)
    app = PitoolApp(
        load=Loader(Tracked()),
        bundles=lambda: ([], []),
        memory=lambda _: None,
        runnable=runnable,
        screens=(entry,),
    )
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await until(lambda: isinstance(app.screen, ChatScreen) and "Ready." in shown(app))
        await pilot.press("f6")
        await until(lambda: isinstance(app.screen, Faulty))
        await pilot.press("a")
        await is_told(app, "the action failed; do [b]it[/b] again.")
        await until(lambda: "do [b]it[/b] again." in shown(app))
        await pilot.click(Button)
        await is_told(app, "the database reports an error: the handler failed.")
        assert isinstance(app.screen, Faulty)
        app.screen.later()
        await is_told(app, "/a/file: No space left on device.")
        await pilot.press("a")
        assert isinstance(app.screen, Faulty)


@pytest.mark.thorough
async def test_conversations_that_cannot_be_opened_keep_no_model_from_answering(
    runnable: Runnable,
) -> None:
    trouble = BadInput("conversations.db is damaged", "run pitool doctor")
    app = PitoolApp(
        load=Loader(Tracked()),
        bundles=lambda: ([], []),
        memory=lambda _: None,
        runnable=runnable,
        trouble=trouble,
    )
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await until(lambda: isinstance(app.screen, ChatScreen) and "Ready." in shown(app))
        await is_told(app, "conversations.db is damaged; run pitool doctor.")
        app.screen.query_one(NoticeLine).clear()
        await pilot.press("f3")
        await is_told(app, "conversations.db is damaged; run pitool doctor.")
        assert isinstance(app.screen, ChatScreen)


@pytest.mark.parametrize("error", [ZeroDivisionError(), ValueError("x"), AssertionError()])
def test_a_fault_of_our_own_is_none_of_these(error: Exception) -> None:
    assert fault(error) == ""

"""Conversations that are kept: found again, renamed, deleted, exported; restarts and deaths."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from textual.pilot import Pilot

from pitool.catalog.bundles import Runnable
from pitool.chat.engine_slot import Load
from pitool.chat.status import Phase
from pitool.engine.base import Message
from pitool.store.conversation import Answer, Conversation, Question
from pitool.store.database import Database
from pitool.tui.app import PitoolApp
from pitool.tui.screens.chat import ChatScreen
from pitool.tui.screens.chats import ChatsScreen
from pitool.tui.screens.models import ModelsScreen
from tests.chat.helpers import Halting, Loader, Tracked, settled, until

from .helpers import said, shown, type_in

SIZE = (100, 30)


def keeping_app(path: Path, runnable: Runnable | None, load: Load) -> PitoolApp:
    return PitoolApp(
        load=load,
        bundles=lambda: ([], []),
        memory=lambda _: None,
        runnable=runnable,
        database=Database(path / "c.db"),
    )


def kept(path: Path) -> list[Conversation]:
    database = Database(path / "c.db")
    return [database.open(summary.key) for summary in database.list()]


def put(path: Path, *questions: str) -> None:
    database = Database(path / "c.db")
    for question in questions:
        made = Conversation(rows=[Question(question), Answer("m", f"about {question}")])
        database.save(made, made.rows, ())
    database.close()


async def to_chats(app: PitoolApp, pilot: Pilot[None]) -> None:
    await until(lambda: isinstance(app.screen, ChatScreen))
    await until(lambda: app.session.status.phase is Phase.READY)
    await pilot.press("f3")
    await until(lambda: isinstance(app.screen, ChatsScreen) and "last used" in shown(app))


@pytest.mark.parametrize("key", ["f2", "f3"])
async def test_the_header_follows_the_worker_on_the_lists(
    tmp_path: Path, runnable: Runnable, key: str
) -> None:
    engine = Halting()
    app = keeping_app(tmp_path, runnable, Loader(engine))
    async with app.run_test(size=SIZE) as pilot:
        await until(lambda: app.session.status.phase is Phase.READY)
        await until(lambda: isinstance(app.screen, ChatScreen) and "Ready." in shown(app))
        type_in(app, "Count")
        await pilot.press("enter")
        await until(lambda: "one two" in shown(app))
        await pilot.press(key)
        await until(lambda: isinstance(app.screen, (ChatsScreen, ModelsScreen)))
        await until(lambda: "answering" in shown(app).splitlines()[0])
        engine.go.set()
        await until(lambda: "ready" in shown(app).splitlines()[0])


async def test_what_was_said_is_there_after_a_restart(tmp_path: Path, runnable: Runnable) -> None:
    app = keeping_app(tmp_path, runnable, Loader(Tracked()))
    async with app.run_test(size=SIZE) as pilot:
        await until(lambda: app.session.status.phase is Phase.READY)
        type_in(app, "Remember me?")
        await pilot.press("enter")
        await until(lambda: "Hello from the script." in shown(app) and settled(app.session))
    engine = Tracked(["Of course."])
    app = keeping_app(tmp_path, runnable, Loader(engine))
    async with app.run_test(size=SIZE) as pilot:
        await to_chats(app, pilot)
        assert "Remember me?" in shown(app)
        await pilot.press("enter")
        await until(lambda: "Hello from the script." in shown(app))
        type_in(app, "Really?")
        await pilot.press("enter")
        await until(lambda: "Of course." in shown(app) and settled(app.session))
    assert [getattr(row, "text", "") for row in kept(tmp_path)[0].rows] == [
        "Remember me?", "Hello from the script.", "Really?", "Of course.",
    ]  # fmt: skip
    assert engine.prompts[0][0] == Message("user", "Remember me?")


async def test_an_answer_is_kept_while_it_grows(tmp_path: Path, runnable: Runnable) -> None:
    engine = Halting()
    app = keeping_app(tmp_path, runnable, Loader(engine))
    async with app.run_test(size=SIZE) as pilot:
        await until(lambda: app.session.status.phase is Phase.READY)
        type_in(app, "Count")
        await pilot.press("enter")

        def partial() -> bool:
            answer = kept(tmp_path)[0].last_answer() if kept(tmp_path) else None
            return answer is not None and (answer.text, answer.finish) == ("one two", "failed")

        await until(partial)


@pytest.mark.thorough
async def test_search_rename_delete(tmp_path: Path, runnable: Runnable) -> None:
    put(tmp_path, "apples", "pears", "plums")
    app = keeping_app(tmp_path, runnable, Loader(Tracked()))
    async with app.run_test(size=SIZE) as pilot:
        await to_chats(app, pilot)
        await pilot.press("slash", *"about p", "enter")
        await until(lambda: "about pears" in shown(app) and "apples" not in shown(app))
        await pilot.press("r", *" and more", "enter")
        await until(lambda: "plums and more" in shown(app))
        await pilot.press("d", "enter")
        await until(lambda: isinstance(app.screen, ChatsScreen))
        await pilot.press("d")
        await until(lambda: "Move “plums and more”" in shown(app))
        await pilot.press("right", "enter")
        await until(lambda: "plums" not in shown(app))
        await pilot.press("slash", *"nothing like it", "enter")
        await until(lambda: "No conversations match." in shown(app))
    assert sorted(conversation.name for conversation in kept(tmp_path)) == ["apples", "pears"]


async def test_deleting_the_one_that_is_being_answered(tmp_path: Path, runnable: Runnable) -> None:
    app = keeping_app(tmp_path, runnable, Loader(Halting()))
    async with app.run_test(size=SIZE) as pilot:
        await until(lambda: app.session.status.phase is Phase.READY)
        type_in(app, "Count")
        await pilot.press("enter")
        await until(lambda: "one two" in shown(app))
        await pilot.press("f3")
        await until(lambda: "last used" in shown(app) and "Count" in shown(app))
        await pilot.press("d", "right", "enter")
        await until(lambda: "No conversations yet." in shown(app))
        await until(lambda: app.session.status.phase is Phase.READY)
    assert kept(tmp_path) == []


@pytest.mark.thorough
async def test_export(tmp_path: Path, runnable: Runnable) -> None:
    put(tmp_path, "apples")
    app = keeping_app(tmp_path, runnable, Loader(Tracked()))
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await to_chats(app, pilot)
        for name in ("out.json", "no/such/folder.md"):
            await pilot.press("e")
            await until(lambda: "Export to" in shown(app))
            field = app.screen.query_one("Input")
            field.value = str(tmp_path / name)  # type: ignore[attr-defined]
            await pilot.press("enter")
            await until(lambda: isinstance(app.screen, ChatsScreen))
        await until(lambda: "No such file" in said(app))
    assert json.loads((tmp_path / "out.json").read_text())["title"] == "apples"


async def test_a_conversation_is_opened_from_the_list_of_models(tmp_path: Path) -> None:
    put(tmp_path, "What is a Pi?")
    app = keeping_app(tmp_path, None, Loader(Tracked()))
    async with app.run_test(size=SIZE) as pilot:
        await until(lambda: isinstance(app.screen, ModelsScreen))
        await pilot.press("f3")
        await until(lambda: "last used" in shown(app))
        await pilot.press("escape", "f3")
        await until(lambda: "last used" in shown(app))
        await pilot.press("enter")
        await until(lambda: "about What is a Pi?" in shown(app))
        assert isinstance(app.screen, ChatScreen)
        # The keys of screens lead back to those that are open, and never pile them up.
        for key in ("f3", "f2", "f3", "f2"):
            await pilot.press(key)
        await until(lambda: isinstance(app.screen, ModelsScreen))
        assert len(app.screen_stack) == 4
        await pilot.press("escape", "escape")
        await until(lambda: isinstance(app.screen, ChatScreen))

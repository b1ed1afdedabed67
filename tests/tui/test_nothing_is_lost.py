"""Slips cost nothing: versions, the trash, Esc, Ctrl+U; notices that cover nothing; coming back."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import Input

from pitool.catalog.bundles import Runnable
from pitool.chat.status import Phase
from pitool.store.conversation import Answer, Conversation, Question
from pitool.store.database import Database
from pitool.tui import demo
from pitool.tui.app import PitoolApp
from pitool.tui.screens.chat import ChatScreen
from pitool.tui.screens.chats import ChatsScreen
from pitool.tui.screens.dialogs import Confirm, Page
from pitool.tui.screens.models import ModelsScreen
from pitool.tui.widgets.prompt import Prompt
from tests.chat.helpers import Halting, Loader, Tracked, settled, until

from .helpers import shown, type_in
from .test_actions import chat

SIZE = (80, 24)


async def test_versions_are_leafed_through(runnable: Runnable, tmp_path: Path) -> None:
    async with chat(runnable, Tracked(["first", "second", "third"]), tmp_path) as c:
        await c.ask("one")
        await c.pilot.press("ctrl+r")
        await c.sees("version 2 of 2")
        await until(lambda: settled(c.app.session))
        await c.pilot.press("ctrl+b")
        await c.sees("version 1 of 2")
        assert c.texts == ["one", "first"]
        await c.send("/variant 2")
        await c.sees("second")
        await c.pilot.press("f4")
        type_in(c.app, "!")
        await c.pilot.press("enter")
        await c.sees("third")
        await until(lambda: settled(c.app.session))
        assert c.texts == ["one!", "third"]
        await c.pilot.press("ctrl+b")
        await until(lambda: c.texts == ["one", "second"])
        await c.pilot.press("f4", "ctrl+b")
        await until(lambda: c.texts == ["one!", "third"])
        assert c.app.screen.query_one(Prompt).text == ""
        await c.send("/variant 9")
        await c.is_told("use a number from 1 to 2")
        assert c.app.journal is not None
        c.app.journal.flush()
    kept = Database(tmp_path / "c.db")
    opened = kept.open(kept.list()[0].key)
    assert opened.variant(opened.rows[0]) == (2, 2)
    opened.turn(opened.rows[0], 1)
    assert opened.variant(opened.rows[1]) == (2, 2)


async def test_esc_and_ctrl_u(runnable: Runnable, tmp_path: Path) -> None:
    async with chat(runnable, Tracked(), tmp_path) as c:
        prompt = c.app.screen.query_one(Prompt)
        await c.send("/nothing like it")
        await c.is_told("unknown command /nothing")
        await c.pilot.press("escape")
        await until(lambda: prompt.text == "")
        await c.pilot.press("up")
        assert prompt.text == "/nothing like it"
        await c.pilot.press("ctrl+u")
        assert prompt.text == ""
        await c.pilot.press(*"a draft", "escape")
        assert prompt.text == "a draft"  # what is no command is never cleared
        assert c.app.session.status.phase is Phase.READY


async def test_unloading_asks_while_an_answer_runs(runnable: Runnable, tmp_path: Path) -> None:
    engine = Halting()
    async with chat(runnable, engine, tmp_path) as c:
        await c.send("Count")
        await c.sees("one two")
        await c.pilot.press("f9")
        await until(lambda: isinstance(c.app.screen, Confirm))
        await c.pilot.press("enter")
        await until(lambda: isinstance(c.app.screen, ChatScreen))
        assert c.app.session.status.phase is Phase.ANSWERING
        await c.pilot.press("f9")
        await until(lambda: isinstance(c.app.screen, Confirm))
        await c.pilot.press("right", "enter")
        await c.sees("○ not loaded")
        await c.sees("one two")


@pytest.mark.thorough
async def test_the_trash(runnable: Runnable, tmp_path: Path) -> None:
    database = Database(tmp_path / "c.db")
    for text in ("apples", "pears"):
        made = Conversation(rows=[Question(text), Answer("m", f"All about {text}. Really.")])
        database.save(made, made.rows, ())
    database.close()
    async with chat(runnable, Tracked(), tmp_path) as c:
        await c.pilot.press("f3")
        await until(lambda: isinstance(c.app.screen, ChatsScreen) and "apples" in shown(c.app))
        await c.pilot.press("d", "y")  # no letter confirms
        assert isinstance(c.app.screen, Confirm)
        await c.pilot.press("right", "enter")
        await c.is_told("“pears” is in the trash: u brings it back.")
        await until(lambda: "pears " not in shown(c.app))
        await c.pilot.press("t")
        await c.sees("Trash:")
        await c.sees("pears")
        await c.pilot.press("d", "right", "enter")
        await c.is_told("“pears” was deleted for good.")
        await c.sees("The trash is empty.")
        await c.pilot.press("escape", "d", "right", "enter")
        await c.sees("No conversations yet.")
        await c.pilot.press("u")
        await c.is_told("“apples” is back.")
        await c.pilot.press("slash", *"ABOUT")
        await c.sees("All about apples.")
        await c.pilot.press("enter", "p")
        await c.sees("★ apples")
        assert "Really" not in shown(c.app)
    kept = Database(tmp_path / "c.db")
    assert [(s.name, s.pinned) for s in kept.list()] == [("apples", True)]
    assert kept.list(trash=True) == []


async def test_notices_cover_nothing_and_do_not_stack(runnable: Runnable, tmp_path: Path) -> None:
    async with chat(runnable, Tracked(), tmp_path) as c:
        await c.ask("Hi")
        figures = [
            line for line in shown(c.app).splitlines() if "decode" in line or "context" in line
        ]
        for number in range(3):
            c.app.notify(f"notice {number} " + "with words " * 20, markup=False)
        await c.sees("notice 2")
        text = shown(c.app)
        assert "notice 0" not in text and "notice 1" not in text
        assert all(line in text for line in figures)
        assert "Ask something" in text and "^q Quit" in text


@pytest.mark.thorough
async def test_every_screen_explains_its_keys(tmp_path: Path) -> None:
    app = demo.demo_app(tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await until(lambda: "Leaf-360M" in shown(app))
        for key, words in (("", "Verify"), ("c", "Swap"), ("f3", "Undo delete"),
                           ("f5", "Stop, back"), ("f8", "Run doctor")):  # fmt: skip
            if key:
                await pilot.press(key)
            await pilot.press("f1")
            await until(lambda: isinstance(app.screen, Page))
            await until(lambda words=words: words in shown(app))  # type: ignore[misc]
            await pilot.press("escape")
            if key:
                await pilot.press("escape")
            await until(lambda: isinstance(app.screen, ModelsScreen))


async def test_themes_are_in_the_palette_by_their_names(tmp_path: Path) -> None:
    app = demo.demo_app(tmp_path)
    async with app.run_test(size=SIZE):
        await until(lambda: "Leaf-360M" in shown(app))
        offered = {command.title: command for command in app.get_system_commands(app.screen)}
        for name in ("pitool-light", "pitool-contrast", "pitool-dark"):
            offered[f"Theme: {name}"].callback()
            assert app.theme == name


@pytest.mark.parametrize("way", ["the key", "the option"])
async def test_comes_back_where_it_was(tmp_path: Path, way: str) -> None:
    bundles = demo.write_bundles(tmp_path / "bundles")

    def opened(*, resume: bool, runnable: Runnable | None = None) -> PitoolApp:
        return PitoolApp(
            load=Loader(Tracked()),
            bundles=lambda: (bundles, []),
            memory=lambda _: None,
            runnable=runnable,
            database=Database(tmp_path / "c.db"),
            settings=tmp_path,
            resume=resume,
        )

    app = opened(resume=False)
    async with app.run_test(size=SIZE) as pilot:
        await until(lambda: isinstance(app.screen, ModelsScreen) and "Leaf-360M" in shown(app))
        await pilot.press("down", "enter")
        await until(lambda: app.session.status.phase is Phase.READY)
        await until(lambda: isinstance(app.screen, ChatScreen) and "Ready." in shown(app))
        type_in(app, "Remember me?")
        await pilot.press("enter")
        await until(lambda: settled(app.session) and app.session.conversation.rows)
        chosen = app.session.status.runnable
        await until(lambda: (tmp_path / "last-model.json").exists())
    from pitool.store import last_model

    assert chosen is not None and chosen.quantisation == "Q8_0"
    assert last_model.find(tmp_path) == chosen
    app = opened(resume=way == "the option", runnable=chosen if way == "the option" else None)
    async with app.run_test(size=SIZE) as pilot:
        if way == "the key":
            await until(lambda: isinstance(app.screen, ModelsScreen) and "Leaf-360M" in shown(app))
            await pilot.press("l")
        await until(lambda: "Remember me?" in shown(app))
        await until(lambda: app.session.status.phase is Phase.READY)
        assert app.session.status.runnable == chosen


async def test_personas(
    runnable: Runnable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PITOOL_HOME", str(tmp_path / "home"))
    async with chat(runnable, Tracked(["oui"] * 3), tmp_path) as c:
        await c.send("/system Translate to French.")
        await c.send("/set temperature 0.1")
        await c.send("/persona save translator")
        await c.is_told("Saved as translator")
        await c.send("/system off")
        await c.send("/set balanced")
        await c.send("/persona translator")
        await c.is_told("From the next answer on: translator.")
        conversation = c.app.session.conversation
        assert conversation.system == "Translate to French."
        assert conversation.sampling.temperature == 0.1
        await c.send("/persona")
        await c.sees("Translate to French.")
        await c.pilot.press("escape")
        await c.send("/persona poet")
        await c.is_told("unknown persona 'poet'")
        assert c.app.screen.query(Input) is not None

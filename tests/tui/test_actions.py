"""Every action of the chat by its slash command or key, with the scripted engine."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.command import CommandInput
from textual.events import Resize
from textual.pilot import Pilot
from textual.widgets import Input, TextArea

from pitool.catalog.bundles import Runnable
from pitool.chat.status import Phase
from pitool.engine.base import Message
from pitool.engine.scripted import Scripted
from pitool.store.conversation import Answer, Conversation, Question
from pitool.store.database import Database
from pitool.tui import demo
from pitool.tui.app import PitoolApp
from pitool.tui.screens.chat import ChatScreen
from pitool.tui.screens.chats import ChatsScreen
from pitool.tui.screens.dialogs import AskLines, Confirm, Page
from pitool.tui.screens.models import ModelsScreen
from pitool.tui.widgets.completion import CompletionList
from pitool.tui.widgets.keys import Keys
from pitool.tui.widgets.prompt import Prompt
from tests.chat.helpers import Halting, Loader, Tracked, settled, until

from .helpers import said, shown, type_in

SIZE = (80, 24)
CODE = "Take this:\n\n```python\nprint(1)\n```\n\nor\n\n```sh\nls\n```\n"


class Chat:
    """An app that is ready, and what a user does to it."""

    def __init__(self, app: PitoolApp, pilot: Pilot[None], engine: Scripted) -> None:
        self.app, self.pilot, self.engine = app, pilot, engine

    async def send(self, text: str) -> None:
        type_in(self.app, text)
        await self.pilot.press("enter")

    async def ask(self, text: str) -> None:
        before = self.answers
        await self.send(text)
        await until(lambda: self.answers != before and settled(self.app.session))
        await until(lambda: "t/s" in shown(self.app))

    @property
    def answers(self) -> list[str]:
        rows = self.app.session.conversation.rows
        return [row.key for row in rows if isinstance(row, Answer)]

    @property
    def texts(self) -> list[str]:
        rows = self.app.session.conversation.rows
        return [row.text for row in rows if isinstance(row, Question | Answer)]

    async def sees(self, text: str) -> None:
        await until(lambda: text in shown(self.app))

    async def is_told(self, text: str) -> None:
        """Wait for a notification, which the screen may break into lines."""
        await until(lambda: text in said(self.app))


@asynccontextmanager
async def chat(
    runnable: Runnable, engine: Scripted, path: Path, size: tuple[int, int] = SIZE
) -> AsyncIterator[Chat]:
    bundles = demo.write_bundles(path / "bundles")
    app = PitoolApp(
        load=Loader(engine),
        bundles=lambda: (bundles, []),
        memory=lambda _: demo.MEMORY,
        runnable=runnable,
        database=Database(path / "c.db"),
    )
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(lambda: isinstance(app.screen, ChatScreen) and app.screen.query(Prompt))
        await until(lambda: app.session.status.phase is Phase.READY)
        yield Chat(app, pilot, engine)


async def test_again_and_edit(runnable: Runnable, tmp_path: Path) -> None:
    engine = Tracked(["first", "second", "third", "fourth"])
    async with chat(runnable, engine, tmp_path) as c:
        await c.ask("one")
        await c.pilot.press("ctrl+r")
        await c.sees("second")
        await until(lambda: settled(c.app.session))
        assert c.texts == ["one", "second"]
        assert "first" not in shown(c.app)
        await c.ask("two")
        await c.pilot.press("f4", "f4")
        prompt = c.app.screen.query_one(Prompt)
        assert prompt.text == "one"
        await c.sees("Edit: Enter replaces")
        await c.pilot.press("!", "enter")
        await c.sees("fourth")
        await until(lambda: settled(c.app.session))
        assert c.texts == ["one!", "fourth"]
        assert "second" not in shown(c.app)
        assert "Edit: Enter" not in shown(c.app)
    kept = Database(tmp_path / "c.db")
    rows = kept.open(kept.list()[0].key).rows
    assert [getattr(row, "text", "") for row in rows] == ["one!", "fourth"]


async def test_escape_leaves_the_edit(runnable: Runnable, tmp_path: Path) -> None:
    async with chat(runnable, Tracked(), tmp_path) as c:
        await c.ask("one")
        await c.send("/edit")
        await c.sees("Edit: Enter replaces")
        await c.pilot.press("escape")
        await until(lambda: "Edit: Enter" not in shown(c.app))
        assert c.app.screen.query_one(Prompt).text == ""
        await c.ask("two")
        assert c.texts[::2] == ["one", "two"]


async def test_continue_goes_on_where_it_was_stopped(runnable: Runnable, tmp_path: Path) -> None:
    engine = Halting(["one two three", " and more"])
    async with chat(runnable, engine, tmp_path) as c:
        await c.send("Count")
        await c.sees("one two")
        await c.pilot.press("escape")
        await c.sees("· stopped")
        await c.send("/continue")
        await c.sees("one two and more")
        await until(lambda: settled(c.app.session))
        assert c.texts == ["Count", "one two and more"]
        await c.send("/continue")
        await c.is_told("is already complete")


async def test_system_prompt(runnable: Runnable, tmp_path: Path) -> None:
    engine = Tracked()
    async with chat(runnable, engine, tmp_path) as c:
        await c.send("/system Be brief.")
        await c.ask("Hi")
        assert engine.prompts[-1][0] == Message("system", "Be brief.")
        await c.send("/system")
        await until(lambda: isinstance(c.app.screen, AskLines))
        area = c.app.screen.query_one(TextArea)
        assert area.text == "Be brief."
        area.text = "Be kind.\nAlways."
        await c.pilot.press("ctrl+s")
        await until(lambda: isinstance(c.app.screen, ChatScreen))
        await c.ask("Hi")
        assert engine.prompts[-1][0] == Message("system", "Be kind.\nAlways.")
        await c.send("/system off")
        await c.ask("Hi")
        assert engine.prompts[-1][0] == Message("user", "Hi")


async def test_sampling(runnable: Runnable, tmp_path: Path) -> None:
    async with chat(runnable, Tracked(), tmp_path) as c:
        await c.send("/set temperature 0.25")
        await c.send("/set seed 7")
        await until(lambda: c.app.session.conversation.sampling.seed == 7)
        assert c.app.session.conversation.sampling.temperature == 0.25
        await c.send("/set creative")
        await until(lambda: c.app.session.conversation.sampling.temperature == 1.1)
        assert c.app.session.conversation.sampling.seed == 7
        await c.send("/set full stop")
        await until(lambda: c.app.session.status.when_full == "stop")
        await c.sees("when full: stop")
        await c.send("/set")
        await until(lambda: isinstance(c.app.screen, Page))
        await c.sees("temperature 1.1")
        await c.pilot.press("escape")
        await c.send("/set temperature hot")
        await c.is_told("temperature cannot be 'hot'; use a number from 0 (greedy) to 5.")
        assert c.app.screen.query_one(Prompt).text == "/set temperature hot"


async def test_model(runnable: Runnable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PITOOL_HOME", str(tmp_path))
    async with chat(runnable, Tracked(), tmp_path) as c:
        await c.ask("Hi")
        await c.send("/model leaf-360m Q4_0")
        await c.sees("Leaf-360M Q4_0 · gguf")
        await until(lambda: c.app.session.status.phase is Phase.READY)
        assert "Hello from the script." in shown(c.app)
        await c.send("/model nothing")
        await c.is_told("nothing does not exist")
        c.app.screen.query_one(Prompt).clear()
        await c.send("/model")
        await until(lambda: isinstance(c.app.screen, ModelsScreen))


async def test_unload_by_command(runnable: Runnable, tmp_path: Path) -> None:
    engine = Tracked()
    async with chat(runnable, engine, tmp_path) as c:
        await c.send("/unload")
        await c.sees("○ not loaded")
        assert engine.closed


async def test_copy_answer_and_code(runnable: Runnable, tmp_path: Path) -> None:
    async with chat(runnable, Tracked([CODE]), tmp_path) as c:
        await c.send("/copy")
        await c.is_told("there is no answer to copy yet")
        c.app.screen.query_one(Prompt).clear()
        await c.ask("How?")
        await c.pilot.press("ctrl+y")
        await until(lambda: c.app.clipboard == CODE)
        await c.send("/copy code")
        await until(lambda: c.app.clipboard == "ls\n")
        await c.send("/copy code 1")
        await until(lambda: c.app.clipboard == "print(1)\n")
        await c.send("/copy code 3")
        await c.is_told("the answer has 2 code blocks")


async def test_save(runnable: Runnable, tmp_path: Path) -> None:
    async with chat(runnable, Tracked(), tmp_path) as c:
        await c.ask("Hi")
        for name in ("out.md", "out.json"):
            await c.send(f"/save {tmp_path / name}")
            await until((tmp_path / name).exists)
        assert "## Question\n\nHi\n" in (tmp_path / "out.md").read_text()
        document = json.loads((tmp_path / "out.json").read_text())
        assert document["rows"][1]["text"] == "Hello from the script."
        (tmp_path / "out.md").write_text("mine")
        await c.send(f"/save {tmp_path / 'out.md'}")
        await until(lambda: isinstance(c.app.screen, Confirm))
        await c.pilot.press("enter")
        await until(lambda: isinstance(c.app.screen, ChatScreen))
        assert (tmp_path / "out.md").read_text() == "mine"
        await c.send(f"/save {tmp_path}/no/such.md")
        await c.is_told("No such file")


async def test_attach(runnable: Runnable, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("".join(f"line {n}\n" for n in range(60)))
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0")
    engine = Tracked()
    async with chat(runnable, engine, tmp_path) as c:
        await c.send(f"/attach {tmp_path}/picture.png")
        await c.is_told("is not a text file; attach a text file")
        c.app.screen.query_one(Prompt).clear()
        await c.send(f"/attach {tmp_path}/notes.txt")
        await c.sees("with notes.txt, 470 B")
        await c.ask("What is in it?")
        sent = engine.prompts[-1][0].content
        assert sent.startswith("notes.txt:\n\n```\nline 0\n")
        assert sent.endswith("line 59\n```\n\nWhat is in it?")
        await c.sees("more lines …")
        assert "with notes.txt" not in shown(c.app)


async def test_new_rename_chats_delete(runnable: Runnable, tmp_path: Path) -> None:
    async with chat(runnable, Tracked(), tmp_path) as c:
        await c.ask("apples")
        await c.send("/rename Fruit of the year")
        await c.sees("│  Fruit of the year")
        await c.send("/new")
        await until(lambda: not c.app.session.conversation.rows)
        await c.ask("pears")
        await c.send("/chats apples")
        await until(lambda: isinstance(c.app.screen, ChatsScreen))
        await c.sees("Fruit of the year")
        assert c.app.screen.query_one(Input).value == "apples"
        assert "pears" not in shown(c.app)
        await c.pilot.press("enter")
        await c.sees("│  Fruit of the year")
        await until(lambda: c.texts[0] == "apples")
        await c.pilot.press("up")
        assert c.app.screen.query_one(Prompt).text == "apples"
        c.app.screen.query_one(Prompt).clear()
        await c.send("/delete")
        await c.is_told("Moved to the trash: press F3, then u to bring it back.")
        await until(lambda: not c.app.session.conversation.rows)
    kept = Database(tmp_path / "c.db")
    assert [summary.name for summary in kept.list()] == ["pears"]
    assert [summary.name for summary in kept.list(trash=True)] == ["Fruit of the year"]


async def test_what_is_cleared_is_in_the_trash(runnable: Runnable, tmp_path: Path) -> None:
    async with chat(runnable, Tracked(), tmp_path) as c:
        await c.ask("apples")
        await c.send("/rename Fruit")
        await c.sees("│  Fruit")
        await c.send("/clear")
        await until(lambda: "apples" not in shown(c.app) and "Ready." in shown(c.app))
        assert [s.name for s in Database(tmp_path / "c.db").list(trash=True)] == ["Fruit"]
        assert c.app.session.conversation.title == "Fruit"
        await c.send("/clear")
        await c.is_told("The conversation is empty already.")
        await c.ask("pears")
        assert c.texts[0] == "pears"


async def test_thinking_is_folded(runnable: Runnable, tmp_path: Path) -> None:
    engine = Tracked(["<think>\nLet me see, hmm.\n</think>\n\nIt is **four**."])
    async with chat(runnable, engine, tmp_path) as c:
        await c.ask("2+2?")
        await c.sees("▸ thought for 4 words")
        await c.sees("It is four.")
        assert "Let me see" not in shown(c.app)
        assert "think>" not in shown(c.app)
        await c.pilot.press("ctrl+t")
        await c.sees("Let me see, hmm.")
        await c.sees("▾ thought")
        await c.send("/think")
        await until(lambda: "Let me see" not in shown(c.app))
        await c.send("/copy")
        await until(lambda: c.app.clipboard == "It is **four**.")


@pytest.mark.thorough
async def test_stats_and_help(runnable: Runnable, tmp_path: Path) -> None:
    async with chat(runnable, Tracked(), tmp_path, (100, 50)) as c:
        await c.ask("Hi")
        await c.send("/stats")
        await c.sees("the oldest turns are dropped")
        assert "of 1.21 GB planned" in shown(c.app)
        await c.pilot.press("escape")
        await c.pilot.press("f1")
        await c.sees("/save [FILE]")
        assert "answer the last question again [^R]" in shown(c.app)


async def test_completion(runnable: Runnable, tmp_path: Path) -> None:
    async with chat(runnable, Tracked(), tmp_path) as c:
        prompt = c.app.screen.query_one(Prompt)
        await c.pilot.press("/", "s")
        await until(lambda: c.app.screen.query_one(CompletionList).display)
        await c.sees("the system prompt")
        await c.pilot.press("e", "tab")
        await until(lambda: prompt.text == "/set ")
        await c.pilot.press("t", "tab")
        await until(lambda: prompt.text == "/set temperature")
        prompt.write("/model ")
        await c.sees("raspberry-1.7b Q4_K_M")
        await c.pilot.press("down", "tab")
        await until(lambda: prompt.text == "/model raspberry-1.7b Q8_0")
        prompt.clear()
        await until(lambda: not c.app.screen.query_one(CompletionList).display)


async def test_unknown_command_and_a_question_with_a_slash(
    runnable: Runnable, tmp_path: Path
) -> None:
    async with chat(runnable, Tracked(), tmp_path) as c:
        await c.send("/modle")
        await c.is_told("unknown command /modle; did you mean '/model'?")
        c.app.screen.query_one(Prompt).clear()
        await c.ask("//etc/fstab, what is it?")
        assert c.texts[0] == "/etc/fstab, what is it?"


async def test_command_palette(runnable: Runnable, tmp_path: Path) -> None:
    async with chat(runnable, Tracked(), tmp_path) as c:
        await c.ask("Hi")
        await c.pilot.press("ctrl+p")
        await until(lambda: isinstance(c.app.focused, CommandInput))
        await c.pilot.press(*"stats")
        await c.sees("/stats")
        await c.pilot.press("down", "enter")
        await until(lambda: isinstance(c.app.screen, Page))
        await c.sees("the oldest turns are dropped")


@pytest.mark.thorough
async def test_a_long_conversation_shows_its_end_and_the_rest_on_the_way_up(
    runnable: Runnable, tmp_path: Path
) -> None:
    async with chat(runnable, Tracked(), tmp_path) as c:
        made = Conversation()
        for n in range(100):
            made.rows += [Question(f"ask {n}"), Answer("m", f"reply {n}", finish="stop")]
        c.app.session.open(made)
        await c.sees("reply 99")
        assert len(c.app.screen.query("QuestionRow")) < 100
        for _ in range(200):
            await c.pilot.press("pageup")
            if "ask 0\n" in shown(c.app):
                break
        assert len(c.app.screen.query("QuestionRow")) == 100


async def test_the_footer_shows_whole_keys_and_the_most_needed(
    runnable: Runnable, tmp_path: Path
) -> None:
    async with chat(runnable, Tracked(), tmp_path, (80, 24)) as c:
        await c.ask("Hi")
        await c.sees("f4 Edit")
        words = ("Help", "Models", "Chats", "New", "Copy", "Quit")
        await until(lambda: all(word in shown(c.app).splitlines()[-1] for word in words))
        assert "Device" not in shown(c.app)
        await c.pilot.resize_terminal(120, 40)
        await c.sees("f8 Device")
        assert "f5 Bench" in shown(c.app)
        await c.pilot.resize_terminal(80, 24)
        await until(lambda: "Device" not in shown(c.app))


async def test_the_footer_is_composed_again_for_other_keys_only(
    runnable: Runnable, tmp_path: Path
) -> None:
    async with chat(runnable, Tracked(), tmp_path, (120, 40)) as c:
        await c.ask("Hi")
        await c.sees("f4 Edit")
        screen = c.app.screen
        keys = screen.query_one(Keys)
        before = list(keys.children)
        screen.refresh_bindings()
        screen.bindings_updated_signal.publish(screen)
        keys.on_resize(Resize(keys.size, keys.virtual_size))
        await c.pilot.pause()
        assert list(keys.children) == before
        await c.pilot.press("ctrl+n")
        await until(lambda: "f4 Edit" not in shown(c.app))
        assert list(keys.children) != before

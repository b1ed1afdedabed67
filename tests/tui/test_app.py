"""The whole app with the scripted engine, by the keyboard."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot

from pitool.catalog.bundles import Runnable
from pitool.chat.engine_slot import Load
from pitool.chat.status import Phase
from pitool.engine.base import Engine
from pitool.errors import BadInput, DoesNotFit
from pitool.tui import demo
from pitool.tui.app import PitoolApp
from pitool.tui.messages import SessionChanged
from pitool.tui.screens.chat import ChatScreen
from pitool.tui.screens.models import ModelsScreen, ModelTable
from pitool.tui.widgets.conversation import ConversationView
from pitool.tui.widgets.prompt import Prompt
from pitool.tui.widgets.prose import Prose
from tests.chat.helpers import KILLED, Dying, Halting, Loader, Tracked, settled, until

from .helpers import said, shown, type_in

SIZE = (80, 24)


def chat_app(runnable: Runnable, load: Load) -> PitoolApp:
    return PitoolApp(
        load=load, bundles=lambda: ([], []), memory=lambda _: demo.MEMORY, runnable=runnable
    )


async def ready(app: PitoolApp) -> None:
    await until(lambda: isinstance(app.screen, ChatScreen) and app.screen.query(Prompt))
    await until(lambda: app.session.status.phase is Phase.READY)


async def send(app: PitoolApp, pilot: Pilot[None], text: str) -> None:
    type_in(app, text)
    await pilot.press("enter")


async def test_choose_load_ask(tmp_path: Path) -> None:
    app = demo.demo_app(tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await until(lambda: "Leaf-360M" in shown(app))
        await pilot.press("down", "enter")
        await ready(app)
        assert app.session.status.runnable is not None
        assert app.session.status.runnable.quantisation == "Q8_0"
        await send(app, pilot, "Why?")
        await until(lambda: "at most." in shown(app))
        await until(lambda: "decode 7.9 t/s" in shown(app))
        text = shown(app)
        assert "prefill 84.3 t/s" in text
        assert "memory 1.24 of 2.04 GB" in text
        assert "● ready" in text
        assert app.screen.query_one(Prompt).text == ""
        assert app.screen.query_one(Prose).source == demo.ANSWER


async def test_escape_stops_and_keeps_the_partial_answer(runnable: Runnable) -> None:
    engine = Halting()
    app = chat_app(runnable, Loader(engine))
    async with app.run_test(size=SIZE) as pilot:
        await ready(app)
        await send(app, pilot, "Count")
        await until(lambda: "one two" in shown(app))
        assert "● answering" in shown(app)
        await pilot.press("escape")
        await until(lambda: "· stopped" in shown(app))
        assert "one two" in shown(app)
        assert "three" not in shown(app)
        assert engine.cancels


async def test_enter_during_an_answer_keeps_the_text(runnable: Runnable) -> None:
    engine = Halting()
    app = chat_app(runnable, Loader(engine))
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await ready(app)
        await send(app, pilot, "one")
        await until(lambda: "one two" in shown(app))
        await send(app, pilot, "more")
        await until(lambda: "press Esc to stop" in shown(app))
        assert app.screen.query_one(Prompt).text == "more"
        engine.go.set()
        await until(lambda: settled(app.session))
        await pilot.press("enter")
        await until(lambda: app.screen.query_one(Prompt).text == "")


async def test_worker_death_keeps_the_conversation(runnable: Runnable) -> None:
    app = chat_app(runnable, Loader(Dying(after=3), Tracked()))
    async with app.run_test(size=SIZE) as pilot:
        await ready(app)
        await send(app, pilot, "Count")
        await until(lambda: "failed" in shown(app) and "ask again" in shown(app))
        text = shown(app)
        assert "one two three" in text
        assert KILLED in text
        assert "○ not loaded" in text
        await send(app, pilot, "Again")
        await until(lambda: "Hello from the script." in shown(app))
        assert "one two three" in shown(app)


async def test_unload_and_new(runnable: Runnable) -> None:
    engine = Tracked()
    app = chat_app(runnable, Loader(engine))
    async with app.run_test(size=SIZE) as pilot:
        await ready(app)
        await send(app, pilot, "Hi")
        await until(lambda: "Hello from the script." in shown(app))
        await until(lambda: settled(app.session))
        await pilot.press("f9")
        await until(lambda: "○ not loaded" in shown(app))
        assert engine.closed
        assert "Hello from the script." in shown(app)
        await pilot.press("ctrl+n")
        await until(lambda: "your next question loads the model" in shown(app))
        assert "Hello from the script." not in shown(app)


async def test_no_bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PITOOL_HOME", str(tmp_path))
    app = PitoolApp(load=Loader(Tracked()), bundles=lambda: ([], []), memory=lambda _: None)
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await until(lambda: "pitool convert sample --ram 1gb" in shown(app))
        await pilot.press("enter", "escape")
        await until(lambda: "No model is chosen" in shown(app))
        await pilot.press("a", "enter")
        await until(lambda: "No model is chosen:" in shown(app))
        await pilot.press("ctrl+l")
        await until(lambda: isinstance(app.screen, ModelsScreen))


async def test_error_at_load_is_a_sentence(runnable: Runnable) -> None:
    app = chat_app(runnable, Loader(DoesNotFit("2 GB are needed", "take Q4_0"), Tracked()))
    async with app.run_test(size=SIZE):
        await until(lambda: "2 GB are needed; take Q4_0." in shown(app))
        assert "○ not loaded" in shown(app)


async def test_broken_bundles_are_named_and_files_checked(tmp_path: Path) -> None:
    made = demo.write_bundles(tmp_path)
    (made[0].path / "model-q4_k_m.gguf").unlink()
    app = PitoolApp(
        load=Loader(Tracked()),
        bundles=lambda: (made, [BadInput("other/manifest.json is damaged", "convert again")]),
        memory=lambda _: None,
    )
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await until(lambda: "other/manifest.json is damaged; convert again." in shown(app))
        await until(lambda: app.screen.query_one(ModelTable).has_focus)
        await pilot.press("enter")
        await until(lambda: "is missing" in said(app))
        assert isinstance(app.screen, ModelsScreen)


async def test_switch_model_and_back(tmp_path: Path) -> None:
    app = demo.demo_app(tmp_path, load=Loader(Tracked()))
    async with app.run_test(size=SIZE) as pilot:
        await until(lambda: "Leaf-360M" in shown(app))
        await pilot.press("enter")
        await ready(app)
        await pilot.press("f2")
        await until(lambda: isinstance(app.screen, ModelsScreen))
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, ChatScreen))
        await pilot.press("ctrl+l")
        await until(lambda: isinstance(app.screen, ModelsScreen))
        await pilot.press("down", "down", "enter")
        await until(lambda: "Leaf-360M Q4_0 · gguf" in shown(app))


async def test_prompt_lines_and_history(runnable: Runnable) -> None:
    app = chat_app(runnable, Loader(Tracked()))
    async with app.run_test(size=SIZE) as pilot:
        await ready(app)
        prompt = app.screen.query_one(Prompt)
        await pilot.press("enter", "a", "ctrl+j", "b", "enter")
        await until(lambda: len(app.session.conversation.rows) == 2 and settled(app.session))
        await pilot.press("c", "enter")
        await until(lambda: len(app.session.conversation.rows) == 4 and settled(app.session))
        await pilot.press("up")
        assert prompt.text == "c"
        await pilot.press("up")
        assert prompt.text == "a\nb"
        await pilot.press("down", "down")
        assert prompt.text == ""


async def test_the_view_follows_until_scrolled(runnable: Runnable) -> None:
    answer = "\n\n".join(f"line {n}" for n in range(60))
    app = chat_app(runnable, Loader(Tracked([answer])))
    async with app.run_test(size=SIZE) as pilot:
        await ready(app)
        await send(app, pilot, "Go")
        await until(lambda: "line 59" in shown(app))
        view = app.screen.query_one(ConversationView)
        await pilot.press("pageup", "pageup")
        await until(lambda: "line 59" not in shown(app))
        assert view.scroll_y > 0
        await send(app, pilot, "Go")
        await until(lambda: view.is_vertical_scroll_end and settled(app.session))
        await pilot.resize_terminal(60, 15)
        await until(lambda: "60 tokens" in shown(app) or "line 59" in shown(app))


async def test_nothing_happens_when_idle(
    runnable: Runnable, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[object] = []
    look = ChatScreen.on_session_changed

    async def counted(screen: ChatScreen, message: SessionChanged | None = None) -> None:
        looks.append(message)
        await look(screen, message)

    monkeypatch.setattr(ChatScreen, "on_session_changed", counted)
    app = chat_app(runnable, Loader(Tracked()))
    async with app.run_test(size=SIZE) as pilot:
        await ready(app)
        await send(app, pilot, "Hi")
        await until(lambda: "Hello from the script." in shown(app) and settled(app.session))
        await pilot.pause()
        before = len(looks)
        for _ in range(20):
            await pilot.pause(0.01)
        assert len(looks) == before


async def test_quitting_closes_the_engine(runnable: Runnable) -> None:
    engine = Halting()
    app = chat_app(runnable, Loader(engine))
    async with app.run_test(size=SIZE) as pilot:
        await ready(app)
        await send(app, pilot, "Count")
        await until(lambda: "one two" in shown(app))
        await pilot.press("ctrl+q")
    assert engine.closed


async def test_escape_stops_a_load_after_a_new_conversation(runnable: Runnable) -> None:
    started, go = threading.Event(), threading.Event()

    def slow(_: Runnable, on_progress: Callable[[float], None]) -> Engine:
        on_progress(0.1)
        started.set()
        assert go.wait(120)
        on_progress(0.9)
        raise AssertionError("the load went on")

    app = chat_app(runnable, slow)
    async with app.run_test(size=SIZE) as pilot:
        await until(started.is_set)
        await until(lambda: "◐ loading" in shown(app))
        await pilot.press("ctrl+n", "escape")
        go.set()
        await until(lambda: app.session.status.phase is Phase.UNLOADED)
        await until(lambda: "○ not loaded" in shown(app))
        assert app.session.conversation.rows == []

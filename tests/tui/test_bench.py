"""The bench screen: what is measured, kept and shown, and what happens when it is stopped."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Select

from pitool.bench.history import FILE_NAME, History
from pitool.bench.progress import BenchRunner
from pitool.bench.rows import test_name as name_of
from pitool.bench.session import Tools
from pitool.catalog.bundles import Runnable
from pitool.chat.status import Phase
from pitool.engine.base import Engine, Settings
from pitool.engine.scripted import Scripted
from pitool.tui import demo, demo_bench
from pitool.tui.app import PitoolApp
from pitool.tui.screens.bench import BenchScreen
from pitool.tui.screens.chat import ChatScreen
from pitool.tui.screens.chats import ChatsScreen
from pitool.tui.screens.device import DeviceScreen
from tests.chat.helpers import Loader, Tracked, until

from .helpers import said, shown, type_in


class Slow(Scripted):
    """Times so many repetitions, then waits in the next until it is killed."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls, self.waits, self.closed = calls, threading.Event(), False

    def time_forward(self, ids: Any, *, one_by_one: bool) -> float:
        self.calls -= 1
        if self.calls < 0:
            self.waits.set()
            assert self._killed.wait(120)
        return super().time_forward(ids, one_by_one=one_by_one)

    def close(self) -> None:
        self.closed = True


def tools(folder: Path, engine: Scripted | Exception | None = None) -> Tools:
    made = demo_bench.tools(folder)
    if engine is None:
        return made

    def load(
        runnable: Runnable, settings: Settings, on_progress: Callable[[float], None]
    ) -> Scripted:
        if isinstance(engine, Exception):
            raise engine
        return engine

    return replace(made, load=load)


def history(folder: Path) -> list[dict[str, Any]]:
    with closing(History(folder / FILE_NAME)) as kept:
        return kept.rows()


@asynccontextmanager
async def screen(
    folder: Path,
    made: Tools | None = None,
    load: Callable[..., Engine] | None = None,
) -> AsyncIterator[tuple[PitoolApp, Pilot[Any]]]:
    app = demo.demo_app(folder, load=load)
    if made is not None:
        app._make_bench = partial(BenchRunner, made)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until(lambda: "Leaf-360M" in shown(app))
        yield app, pilot


async def opened(app: PitoolApp) -> None:
    await until(lambda: isinstance(app.screen, BenchScreen) and app.screen.query(Select))


async def measuring(app: PitoolApp, pilot: Pilot[Any]) -> None:
    """Open the screen and begin."""
    await pilot.press("f5")
    await opened(app)
    await pilot.press("r")


async def test_measure_by_keys_and_see_it_beside_the_last_run(tmp_path: Path) -> None:
    async with screen(tmp_path) as (app, pilot):
        await pilot.press("f5")
        await opened(app)
        assert "Press r to measure." in shown(app)
        await pilot.press("r")
        await until(lambda: "quick: done" in shown(app) and "84.30 ± 0.00" in shown(app))
        text = shown(app)
        assert "8.8 (89%)" in text
        assert "throttled 1/2" in text
        assert "+0%" not in text
        await until(lambda: app.session.status.phase is Phase.UNLOADED)
        await pilot.press("r")
        await until(lambda: shown(app).count("84.30 ± 0.00") == 2)
        await until(lambda: shown(app).count("+0%") == 2)
        await until(lambda: app.session.status.phase is Phase.UNLOADED)
        await pilot.press("escape")
        await until(lambda: not isinstance(app.screen, BenchScreen))
        await pilot.press("f5")
        await opened(app)
        await until(lambda: app.screen.query_one(DataTable).row_count == 4)


@pytest.mark.thorough
async def test_choose_artifact_and_tests_by_the_keyboard(tmp_path: Path) -> None:
    async with screen(tmp_path) as (app, pilot):
        await pilot.press("f5")
        await opened(app)
        await pilot.press("tab", "enter", "down", "enter")
        await until(lambda: "Raspberry-1.7B Q8_0" in shown(app))
        await pilot.press("tab", "enter")
        await until(lambda: app.screen.query_one("#tests", Select).expanded)
        await pilot.press("escape")
        await until(lambda: not app.screen.query_one("#tests", Select).expanded)
        await pilot.press("enter", "down", "enter")
        await until(lambda: "standard: pp512" in shown(app))
        await pilot.press("r")
        await until(lambda: "Q8_0, standard: done" in shown(app))
        assert {row["quantisation"] for row in history(tmp_path)} == {"Q8_0"}
        assert [name_of(row) for row in history(tmp_path)] == ["pp512", "tg128"]


async def test_escape_ends_it_and_keeps_what_was_measured(tmp_path: Path) -> None:
    # Warm-up of two calls and one repetition; the second one waits.
    engine = Slow(2)
    async with screen(tmp_path, tools(tmp_path, engine)) as (app, pilot):
        await measuring(app, pilot)
        await until(engine.waits.is_set)
        await until(lambda: "pp128 1/2: 100.00 t/s" in shown(app))
        assert "◐ measuring" in shown(app)
        await pilot.press("r")
        await until(lambda: "then r to measure" in shown(app))
        await pilot.press("escape")
        await until(lambda: "stopped, results so far are saved" in shown(app))
        await until(lambda: app.session.status.phase is Phase.UNLOADED)
        assert engine.closed
        assert isinstance(app.screen, BenchScreen)
        rows = history(tmp_path)
        assert [(name_of(row), len(row["samples_ns"])) for row in rows] == [("pp128", 1)]


@pytest.mark.thorough
async def test_the_chats_model_ends_first_and_comes_back(tmp_path: Path) -> None:
    chat = Tracked()
    loader = Loader(chat, Tracked())
    async with screen(tmp_path, load=loader) as (app, pilot):
        await pilot.press("enter")
        await until(lambda: app.session.status.phase is Phase.READY)
        await until(lambda: isinstance(app.screen, ChatScreen) and "Ready." in shown(app))
        type_in(app, "/bench")
        await pilot.press("enter")
        await opened(app)
        await pilot.press("r")
        await until(lambda: "quick: done" in shown(app))
        assert chat.closed
        await until(lambda: app.session.status.phase is Phase.UNLOADED)
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, ChatScreen))
        type_in(app, "Hi")
        await pilot.press("enter")
        await until(lambda: "Hello from the script." in shown(app))
        assert len(loader.loads) == 2


async def test_it_goes_on_under_another_screen_and_nothing_is_sensed(tmp_path: Path) -> None:
    engine = Slow(0)
    async with screen(tmp_path, tools(tmp_path, engine)) as (app, pilot):
        await measuring(app, pilot)
        await until(engine.waits.is_set)
        taken: list[float] = []
        app._sensors.take = taken.append  # type: ignore[union-attr,method-assign]
        await pilot.press("f8")
        await until(lambda: isinstance(app.screen, DeviceScreen))
        await app._sense()
        await until(lambda: "runs when the model is idle" in shown(app))
        assert taken == []
        await pilot.press("escape")
        await opened(app)
        await pilot.press("escape")
        await until(lambda: app.session.status.phase is Phase.UNLOADED)


async def test_escape_ends_it_after_a_new_conversation_and_says_stopped(tmp_path: Path) -> None:
    engine = Slow(2)
    async with screen(tmp_path, tools(tmp_path, engine)) as (app, pilot):
        await pilot.press("enter")
        await until(lambda: app.session.status.phase is Phase.READY)
        await until(lambda: isinstance(app.screen, ChatScreen) and "Ready." in shown(app))
        await measuring(app, pilot)
        await until(engine.waits.is_set)
        app.session.new()  # as Ctrl+N in the chat does
        await pilot.press("escape")
        await until(lambda: "stopped, results so far are saved" in shown(app))
        await until(lambda: app.session.status.phase is Phase.UNLOADED)
        assert engine.closed
        assert [len(row["samples_ns"]) for row in history(tmp_path)] == [1]


async def test_escape_in_the_chat_ends_it_too(tmp_path: Path) -> None:
    engine = Slow(0)
    async with screen(tmp_path, tools(tmp_path, engine)) as (app, pilot):
        await pilot.press("enter")
        await until(lambda: app.session.status.phase is Phase.READY)
        await until(lambda: isinstance(app.screen, ChatScreen) and "Ready." in shown(app))
        await measuring(app, pilot)
        await until(engine.waits.is_set)
        await pilot.press("f3")
        await until(lambda: isinstance(app.screen, ChatsScreen))
        app.screen.dismiss(True)  # as opening a conversation does
        await until(lambda: isinstance(app.screen, ChatScreen))
        await pilot.press("ctrl+n", "escape")
        await until(lambda: app.session.status.phase is Phase.UNLOADED)
        await pilot.press("f5")
        await opened(app)
        await until(lambda: "stopped, results so far are saved" in shown(app))


async def test_quitting_ends_it_at_once_and_keeps_what_was_measured(tmp_path: Path) -> None:
    engine = Slow(2)
    async with screen(tmp_path, tools(tmp_path, engine)) as (app, pilot):
        await measuring(app, pilot)
        await until(engine.waits.is_set)
        await pilot.press("ctrl+q")
    assert engine.closed
    assert [len(row["samples_ns"]) for row in history(tmp_path)] == [1]


async def test_nothing_to_measure(tmp_path: Path) -> None:
    app = PitoolApp(
        load=Loader(Tracked()),
        bundles=lambda: ([], []),
        memory=lambda _: None,
        bench=partial(BenchRunner, demo_bench.tools(tmp_path)),
    )
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f5")
        await until(lambda: "No artifact to measure" in shown(app))
        await pilot.press("r", "escape")
        await until(lambda: not isinstance(app.screen, BenchScreen))


async def test_a_broken_history_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("no database")
    async with screen(tmp_path) as (app, pilot):
        await pilot.press("f5")
        await until(lambda: "is damaged" in said(app))
        await pilot.press("r")
        await until(lambda: "quick: failed" in shown(app))

"""The comparison of two artifacts on its screen, by the keyboard."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Select

from pitool.catalog.bundles import Runnable
from pitool.chat.status import Phase
from pitool.tui import demo
from pitool.tui.app import PitoolApp
from pitool.tui.screens.chat import ChatScreen
from pitool.tui.screens.compare import CompareScreen
from pitool.tui.screens.models import ModelsScreen
from tests.chat.helpers import Halting, LoadLog, settled, until

from .helpers import shown, type_in


@asynccontextmanager
async def screen(tmp_path: Path, load: LoadLog, size: tuple[int, int] = (80, 24)):  # type: ignore[no-untyped-def]
    app = demo.demo_app(tmp_path, load=load)
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(lambda: "Leaf-360M" in shown(app))
        await pilot.press("c")
        await until(lambda: isinstance(app.screen, CompareScreen) and app.screen.query(Select))
        yield app, pilot


async def test_screen(tmp_path: Path) -> None:
    load = LoadLog()
    async with screen(tmp_path, load) as (app, pilot):
        await pilot.press(*"Why", "enter")
        await until(lambda: load.lines[-1:] == ["close Q8_0"])
        await until(lambda: shown(app).count("Hello from the script.") == 2)
        await until(lambda: shown(app).count("done · 4 tokens") == 2)
        text = shown(app)
        assert "one after the other" in text
        assert "decode 10.0 t/s" in text
        assert "perplexity 9.10" in text
        assert "size 1.05 GB ▴" in text
        assert "KL 0.0043 ▴" in text
        await pilot.press("ctrl+s")
        await until(lambda: shown(app).index("Q8_0") < shown(app).index("Q4_K_M"))
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, ModelsScreen))


async def test_screen_refuses_what_cannot_be_compared(tmp_path: Path) -> None:
    load = LoadLog()
    async with screen(tmp_path, load) as (app, pilot):
        await pilot.press("enter")
        await until(lambda: "Enter a prompt first." in shown(app))
        first, second = app.screen.query(Select)
        second.value = first.value
        await pilot.press("a", "enter")
        await until(lambda: "Choose two different" in " ".join(shown(app).split()))
        assert load.lines == []


async def test_escape_stops_and_keeps_what_came(tmp_path: Path) -> None:
    load = LoadLog(Halting)
    async with screen(tmp_path, load) as (app, pilot):
        await pilot.press("a", "enter")
        await until(lambda: "one two" in shown(app))
        await pilot.press("escape")
        await until(lambda: "stopped · 2 tokens" in shown(app))
        await until(lambda: app.session.status.phase is Phase.UNLOADED)
        assert "answer Q8_0" not in load.lines


@pytest.mark.thorough
async def test_compare_from_the_chat_takes_its_question_and_gives_the_model_back(
    runnable: Runnable, tmp_path: Path
) -> None:
    load = LoadLog()
    bundles = demo.write_bundles(tmp_path / "bundles")
    app = PitoolApp(load=load, bundles=lambda: (bundles, []), memory=lambda _: 7, runnable=runnable)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: app.session.status.phase is Phase.READY)
        await ask(app, pilot, "Hi there")
        await ask(app, pilot, "/compare")
        await until(lambda: isinstance(app.screen, CompareScreen) and app.screen.query(Input))
        assert app.screen.query_one(Input).value == "Hi there"
        await pilot.press("enter")
        await until(lambda: load.lines[-1:] == ["close Q8_0"])
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, ChatScreen))
        await until(lambda: app.session.status.phase is Phase.UNLOADED)
        await ask(app, pilot, "Again")
        assert load.lines[-2:] == ["load Q4_K_M", "answer Q4_K_M"]


async def ask(app: PitoolApp, pilot: Pilot[None], text: str) -> None:
    type_in(app, text)
    await pilot.press("enter")
    if not text.startswith("/"):
        await until(lambda: text in str(app.session.conversation.rows) and settled(app.session))

"""What the screens look like; ``pytest --snapshot-update`` takes new pictures."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable

from pitool.chat.status import Phase
from pitool.report.numbers import format_day
from pitool.store.database import ConversationSummary
from pitool.tui import demo
from pitool.tui.app import PitoolApp
from pitool.tui.themes import CONTRAST
from tests.chat.helpers import settled, until

from .helpers import shown, type_in

SIZES = [(80, 24), (120, 40)]
THEMES = ["pitool-dark", "pitool-light"]

Compare = Callable[..., bool]
Show = Callable[[PitoolApp, Pilot[Any]], Awaitable[None]]


async def models(app: PitoolApp, pilot: Pilot[Any]) -> None:
    """Wait for the list."""
    await until(lambda: "Leaf-360M" in shown(app) and "quality" in shown(app))


async def chat(app: PitoolApp, pilot: Pilot[Any]) -> None:
    """Load the first model and ask the question."""
    await models(app, pilot)
    await pilot.press("enter")
    await until(lambda: app.session.status.phase is Phase.READY and "Ready." in shown(app))
    type_in(app, demo.QUESTION)
    await pilot.press("enter")
    await until(lambda: settled(app.session) and "tokens · 7.9 t/s" in shown(app))


async def completion(app: PitoolApp, pilot: Pilot[Any]) -> None:
    """Begin a slash command."""
    await chat(app, pilot)
    await pilot.press("/", "s")
    await until(lambda: "the system prompt" in shown(app))


async def help_page(app: PitoolApp, pilot: Pilot[Any]) -> None:
    """Open the list of commands."""
    await chat(app, pilot)
    await pilot.press("f1")
    await until(lambda: "Commands (Tab completes)" in shown(app))


async def chats(app: PitoolApp, pilot: Pilot[Any]) -> None:
    """Open the list of conversations, of which the times are not the picture's."""
    await chat(app, pilot)
    assert app.database is not None and app.journal is not None
    app.journal.flush()
    kept = [
        ConversationSummary("b", "Names for a cat", 1_780_000_000, 12, pinned=True),
        ConversationSummary("a", "Why is decode limited by memory bandwidth?", 1_750_000_000, 1),
    ]
    app.database.list = MagicMock(return_value=kept)  # type: ignore[method-assign]
    await pilot.press("f3")
    await until(lambda: "Names for a cat" in shown(app))


async def question(app: PitoolApp, pilot: Pilot[Any]) -> None:
    """Ask whether a conversation is to go into the trash."""
    await chats(app, pilot)
    await pilot.press("d")
    await until(lambda: "to the trash?" in shown(app))


async def compare(app: PitoolApp, pilot: Pilot[Any]) -> None:
    """Run the question on two artifacts."""
    await models(app, pilot)
    await pilot.press("c")
    await until(lambda: app.screen.query("PromptLine"))
    await pilot.press(*"Why?", "enter")
    await until(lambda: shown(app).count("done · 89 tokens") == 2)
    await until(lambda: app.session.status.phase is Phase.UNLOADED)
    await until(lambda: "○ not loaded" in shown(app))


async def bench(app: PitoolApp, pilot: Pilot[Any]) -> None:
    """Measure twice; the clock of the rows is the picture's."""
    await models(app, pilot)
    await pilot.press("f5")
    await until(lambda: app.screen.query("#rows"))
    for count in (2, 4):
        await until(lambda: app.session.status.phase is Phase.UNLOADED)
        await pilot.press("r")
        await until(partial(measured, app, count))
    await until(lambda: "○ not loaded" in shown(app) and shown(app).count("+0%") == 2)


def measured(app: PitoolApp, rows: int) -> bool:
    """Tell whether the bench is done and its table has so many rows."""
    return "quick: done" in shown(app) and app.screen.query_one(DataTable).row_count == rows


async def device(app: PitoolApp, pilot: Pilot[Any]) -> None:
    """Look at the board."""
    await models(app, pilot)
    await pilot.press("f8")
    await until(lambda: "to fix in 4 checks" in shown(app) and "60 °C" in shown(app))


SCREENS = [models, chat, completion, help_page, chats, question, compare, bench, device]


@pytest.mark.thorough
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.__name__)
def test_screen(
    snap_compare: Compare,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    screen: Show,
    size: tuple[int, int],
    theme: str,
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    noon = SimpleNamespace(gmtime=lambda: None, strftime=lambda *_: "2026-11-22T12:00:00Z")
    monkeypatch.setattr("pitool.bench.run.time", noon)
    day = partial(format_day, now=1_790_000_000.0)
    for module in ("chats", "bench"):
        monkeypatch.setattr(f"pitool.tui.screens.{module}.format_day", day)
    app = demo.demo_app(tmp_path)

    async def show(pilot: Pilot[Any]) -> None:
        app.theme = theme
        await screen(app, pilot)
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=show)


@pytest.mark.parametrize("screen", [models, chat], ids=lambda screen: screen.__name__)
def test_high_contrast(snap_compare: Compare, tmp_path: Path, screen: Show) -> None:
    app = demo.demo_app(tmp_path)

    async def show(pilot: Pilot[Any]) -> None:
        app.theme = CONTRAST.name
        await screen(app, pilot)
        await pilot.pause()

    assert snap_compare(app, terminal_size=SIZES[0], run_before=show)


def test_chat_without_colours(
    snap_compare: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = demo.demo_app(tmp_path)

    async def show(pilot: Pilot[Any]) -> None:
        await chat(app, pilot)

    assert snap_compare(app, terminal_size=SIZES[0], run_before=show)

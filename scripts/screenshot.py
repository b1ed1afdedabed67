"""Draw the screens with the scripted engine into docs/pictures/: the same pictures every time.

python scripts/screenshot.py [NAME ...]
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from textual.pilot import Pilot
from textual.widgets import DataTable, Input, OptionList

from pitool.chat.status import Phase
from pitool.report.numbers import format_day
from pitool.store.database import ConversationSummary
from pitool.tui import demo
from pitool.tui.app import PitoolApp
from pitool.tui.widgets.prompt import Prompt
from pitool.tui.widgets.prose import Prose

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "pictures"
SIZE = (96, 28)
SECONDS = 60

NOON = time.strptime("2026-11-22 12:00", "%Y-%m-%d %H:%M")
NOW = 1_790_003_600.0  # of the lists, in seconds since 1970
LISTED = [  # with times that stay
    ConversationSummary("b", "A haiku about raspberries", 1_789_900_000, 4, pinned=True),
    ConversationSummary("a", demo.QUESTION, 1_790_000_000, 1),
    ConversationSummary("c", "Which SD card lasts longest?", 1_789_000_000, 12),
]

Step = Callable[[PitoolApp, Pilot[Any]], Awaitable[None]]


async def _until(pilot: Pilot[Any], condition: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("a screen never came to what its picture shows")
        await pilot.pause(0.05)
    await pilot.pause(0.2)


async def models(app: PitoolApp, pilot: Pilot[Any]) -> None:
    """The list of models, which is the first screen."""
    await _until(pilot, lambda: app.screen.query("ModelTable"))


async def chat(app: PitoolApp, pilot: Pilot[Any]) -> None:
    """One answer."""
    await models(app, pilot)
    await pilot.press("enter")
    await _until(pilot, lambda: app.screen.query(Prompt))
    await _until(pilot, lambda: app.session.status.phase is Phase.READY)
    app.screen.query_one(Prompt).insert(demo.QUESTION)
    await pilot.press("enter")
    await _until(pilot, lambda: app.session.conversation.rows and not app.session.status.busy)


async def compare(app: PitoolApp, pilot: Pilot[Any]) -> None:
    """The question on two artifacts."""
    await models(app, pilot)
    await pilot.press("c")
    await _until(pilot, lambda: app.screen.query(Input))
    app.screen.query_one(Input).value = demo.QUESTION
    await pilot.press("enter")
    await _until(pilot, lambda: all(prose.source for prose in app.screen.query(Prose)))
    await _until(pilot, lambda: not app.session.status.busy)


async def chats(app: PitoolApp, pilot: Pilot[Any]) -> None:
    """The conversations."""
    await chat(app, pilot)
    assert app.database is not None
    app.database.list = lambda *_, **__: LISTED  # type: ignore[method-assign]
    await pilot.press("f3")
    await _until(pilot, lambda: app.screen.query("ChatTable"))


async def bench(app: PitoolApp, pilot: Pilot[Any]) -> None:
    """Two benches of an artifact, at a time that stays."""
    await models(app, pilot)
    await pilot.press("f5")
    await _until(pilot, lambda: app.screen.query(DataTable))
    with mock.patch("time.gmtime", return_value=NOON):
        for rows in (2, 4):
            await _until(pilot, lambda: not app.session.status.busy)
            await pilot.press("r")
            await _until(pilot, lambda n=rows: app.screen.query_one(DataTable).row_count == n)
    await _until(pilot, lambda: not app.session.status.busy)


async def device(app: PitoolApp, pilot: Pilot[Any]) -> None:
    """The sensors of a board that became too hot, and the doctor's findings."""
    await models(app, pilot)
    await pilot.press("f8")
    await _until(pilot, lambda: app.screen.query("Findings"))
    await _until(pilot, lambda: app.screen.query_one(OptionList).option_count)


PICTURES: dict[str, tuple[str, Step]] = {
    "tui": ("pitool chat", chat),
    "models": ("pitool", models),
    "compare": ("pitool: compare", compare),
    "chats": ("pitool: conversations", chats),
    "bench": ("pitool: bench", bench),
    "device": ("pitool: device", device),
}


async def draw(title: str, step: Step) -> str:
    """Return a screen as SVG, its random ids made constant."""
    with tempfile.TemporaryDirectory() as folder:
        app = demo.demo_app(Path(folder))
        async with app.run_test(size=SIZE) as pilot:
            await step(app, pilot)
            svg = app.export_screenshot(title=title)
    return re.sub(r"terminal-\d+-", "terminal-", svg)


def main() -> None:
    """Write the pictures that are named, or all."""
    os.environ.pop("NO_COLOR", None)
    os.environ["TZ"] = "UTC"
    time.tzset()
    day = partial(format_day, now=NOW)
    for name in sys.argv[1:] or PICTURES:
        with (
            mock.patch("pitool.tui.screens.chats.format_day", day),
            mock.patch("pitool.tui.screens.bench.format_day", day),
        ):
            svg = asyncio.run(draw(*PICTURES[name]))
        (FOLDER / f"{name}.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()

"""What the screens look like; ``pytest --snapshot-update`` takes new pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from pitool.tui import demo
from pitool.tui.app import PitoolApp
from pitool.tui.status import Phase

from .helpers import settled, shown, type_in, until

SIZES = [(80, 24), (120, 40)]
THEMES = ["pitool-dark", "pitool-light"]

Compare = Callable[..., bool]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("theme", THEMES)
def test_models(snap_compare: Compare, tmp_path: Path, size: tuple[int, int], theme: str) -> None:
    app = demo.demo_app(tmp_path)

    async def show(pilot: Pilot[Any]) -> None:
        app.theme = theme
        await until(lambda: "Leaf-360M" in shown(app) and "quality" in shown(app))

    assert snap_compare(app, terminal_size=size, run_before=show)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("theme", THEMES)
def test_chat(snap_compare: Compare, tmp_path: Path, size: tuple[int, int], theme: str) -> None:
    app = demo.demo_app(tmp_path)

    async def show(pilot: Pilot[Any]) -> None:
        app.theme = theme
        await chat(app, pilot)

    assert snap_compare(app, terminal_size=size, run_before=show)


def test_chat_without_colours(
    snap_compare: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = demo.demo_app(tmp_path)

    async def show(pilot: Pilot[Any]) -> None:
        await chat(app, pilot)

    assert snap_compare(app, terminal_size=SIZES[0], run_before=show)


async def chat(app: PitoolApp, pilot: Pilot[Any]) -> None:
    """Load the first model and ask the question."""
    await until(lambda: "Leaf-360M" in shown(app))
    await pilot.press("enter")
    await until(lambda: app.session.status.phase is Phase.READY and "Ready." in shown(app))
    type_in(app, demo.QUESTION)
    await pilot.press("enter")
    await until(lambda: settled(app.session) and "tokens · 7.9 t/s" in shown(app))
    await pilot.pause()

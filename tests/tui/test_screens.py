"""A screen is a file and a row: key, footer, palette, slash command and help follow from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pitool.catalog.bundles import Runnable
from pitool.chat.status import Phase
from pitool.tui.app import PitoolApp
from pitool.tui.screens import SCREENS, ScreenEntry
from pitool.tui.screens.chat import ChatScreen
from tests.chat.helpers import Loader, Tracked, until

from .helpers import shown, type_in

SOURCE = """
from textual.widgets import Static

from pitool.tui.screens.base import BaseScreen
from pitool.tui.widgets.keys import Keys


class ClockScreen(BaseScreen[None]):
    BINDINGS = [("escape", "dismiss", "Back")]

    def __init__(self, context, words=""):
        super().__init__(context)
        self._words = words

    def compose(self):
        yield Static(f"it is late, says {self._words or self.session.status.phase.value}")
        yield Keys()
"""


async def test_a_screen_from_outside(
    tmp_path: Path, runnable: Runnable, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clock_screen.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = ScreenEntry(
        "clock", "clock_screen:ClockScreen", "Clock", "what time it is", "f7", footer=True
    )
    app = PitoolApp(
        load=Loader(Tracked()),
        bundles=lambda: ([], []),
        memory=lambda _: None,
        runnable=runnable,
        screens=(*SCREENS, entry),
    )
    async with app.run_test(size=(140, 50)) as pilot:
        await until(lambda: app.session.status.phase is Phase.READY)
        await until(lambda: isinstance(app.screen, ChatScreen) and "f7 Clock" in shown(app))
        await pilot.press("f7")
        await until(lambda: "it is late, says ready" in shown(app))
        assert "f7 Clock" in shown(app)
        assert "Clock" in [command.title for command in app.get_system_commands(app.screen)]
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, ChatScreen))
        type_in(app, "/clock you")
        await pilot.press("enter")
        await until(lambda: "it is late, says you" in shown(app))
        await pilot.press("escape", "f1")
        await until(lambda: "what time it is [F7]" in shown(app))
        titles = [command.title for command in app.get_system_commands(app.screen_stack[1])]
        assert "/clock" in titles


@pytest.mark.parametrize("entry", SCREENS, ids=lambda entry: entry.name)
def test_every_row_has_its_screen_and_says_what_it_is(entry: ScreenEntry) -> None:
    assert entry.load().__doc__
    assert entry.help and not entry.help.endswith(".")
    assert entry.command.usage == f"/{entry.name} {entry.arguments}".rstrip()


def test_no_two_screens_share_a_name_or_a_key() -> None:
    keys = [key for entry in SCREENS for key in entry.keys.split(",") if key]
    assert len(set(keys)) == len(keys)
    assert len({entry.name for entry in SCREENS}) == len(SCREENS)

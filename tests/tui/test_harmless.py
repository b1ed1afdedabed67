"""No screen draws what a terminal would obey: in answers, names, notices, titles, in any widget."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.segment import Segment
from textual.color import Color
from textual.screen import Screen
from textual.widgets import DataTable, Input, Static

from pitool.catalog import manifest
from pitool.catalog.bundles import Bundle, choose
from pitool.chat.status import Phase
from pitool.errors import BadInput
from pitool.store.database import FILE_NAME, Database
from pitool.tui import demo
from pitool.tui.app import PitoolApp
from pitool.tui.harmless import HARMLESS
from tests.chat.helpers import Loader, Tracked, settled, until
from tests.cli.test_terminals import HOSTILE, MARK, OBEYED

from .helpers import shown, type_in


def check(app: PitoolApp) -> None:
    found = OBEYED.search(shown(app))
    assert found is None, repr(shown(app)[found.start() - 40 : found.end() + 40])


def strange(folder: Path) -> Bundle:
    """A bundle whose folder and source have hostile names."""
    made = demo.write_bundles(folder)[0]
    moved = made.path.rename(folder / HOSTILE)
    manifest.write(moved, made.manifest)
    return Bundle(moved, made.manifest)


async def test_answers_notices_and_names(tmp_path: Path) -> None:
    made = strange(tmp_path)
    code = f"{HOSTILE}\n\n```python\n{HOSTILE}\n```\n\n| {HOSTILE} |\n|---|\n| `{HOSTILE}` |\n"
    database = Database(tmp_path / FILE_NAME)
    app = PitoolApp(
        load=Loader(Tracked([code])),
        bundles=lambda: ([made], [BadInput(HOSTILE, HOSTILE)]),
        memory=lambda _: 1,
        runnable=choose(made),
        system=HOSTILE,
        database=database,
        tuned=lambda _: HOSTILE,
    )
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: app.session.status.phase is Phase.READY)
        type_in(app, HOSTILE)
        await pilot.press("enter")
        await until(lambda: bool(app.session.conversation.rows) and settled(app.session))
        await until(lambda: shown(app).count(MARK) >= 4)
        check(app)
        app.notify(HOSTILE, title=HOSTILE, markup=False)
        await pilot.pause()
        check(app)
        for key in ("f2", "f3", "f4", "f5", "f6"):
            await pilot.press(key)
            await pilot.pause()
            check(app)
            await pilot.press("escape")
        type_in(app, f"/model {HOSTILE}")
        await pilot.press("enter")
        await pilot.pause()
        check(app)


class Each(Screen[None]):
    """Widgets of several kinds that hold a hostile text."""

    def compose(self):  # type: ignore[no-untyped-def]
        box = Static(HOSTILE, markup=False)
        box.border_title = box.border_subtitle = HOSTILE.replace("[", "(")
        box.styles.border = ("round", "red")
        yield box
        yield Input(HOSTILE)
        table: DataTable[str] = DataTable()
        table.add_columns(HOSTILE)
        table.add_row(HOSTILE)
        yield table


async def test_any_widget() -> None:
    app = PitoolApp(load=Loader(Tracked()), bundles=lambda: ([], []), memory=lambda _: None)
    async with app.run_test(size=(120, 40)) as pilot:
        app.push_screen(Each())
        await until(lambda: shown(app).count(MARK) >= 4)
        await pilot.pause()
        check(app)


@pytest.mark.parametrize("text", ["plain", "日本 👩‍👧", "a\x1bb"])
def test_a_line_keeps_its_width(text: str) -> None:
    (made,) = HARMLESS.apply([Segment(text)], Color(0, 0, 0))
    assert made.text == text.replace("\x1b", "")
    assert made.cell_length == Segment(text).cell_length

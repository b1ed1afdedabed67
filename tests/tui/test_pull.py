"""The catalogue on the screen: what is offered, downloads with progress, then the chat."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from textual.widgets import DataTable

from pitool.catalog.bundles import Bundle
from pitool.errors import BadInput, PitoolError
from pitool.planning.catalogue import Entry, catalogue
from pitool.planning.report import find_places
from pitool.report.progress import Progress
from pitool.tui import demo
from pitool.tui.app import PitoolApp
from pitool.tui.screens.chat import ChatScreen
from pitool.tui.screens.dialogs import Confirm
from pitool.tui.screens.models import ModelsScreen
from pitool.tui.screens.pull import PullScreen
from tests.chat.helpers import Loader, Tracked, until

from .helpers import said, shown


class Shop:
    """Offers what fits a Pi 5 with 2 GB; a download goes on when it is let."""

    def __init__(self, bundle: Bundle, error: PitoolError | None = None) -> None:
        self.bundle, self.error = bundle, error
        self.go, self.pulled, self.stopped = threading.Event(), list[str](), 0

    def entries(self) -> list[Entry]:
        (place,) = find_places("2gb", "pi5")
        return [entry for entry in catalogue(place) if entry.fits]

    def pull(self, entry: Entry, progress: Progress) -> Bundle:
        self.pulled.append(entry.name)
        if self.error:
            raise self.error
        progress.stage(f"downloading {entry.name}", 1_000_000_000, bytes_=True)
        progress.advance(340_000_000)
        try:
            while not self.go.wait(0.02):
                progress.advance(0)
        except PitoolError:
            self.stopped += 1
            raise
        return self.bundle


def app_of(shop: Shop, *bundles: Bundle) -> PitoolApp:
    return PitoolApp(
        load=Loader(Tracked()),
        bundles=lambda: (list(bundles), []),
        memory=lambda _: demo.MEMORY,
        market=lambda: shop,  # type: ignore[arg-type,return-value]
    )


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(demo.write_bundles(tmp_path)[0])


async def test_where_nothing_is_the_catalogue_opens_and_leads_to_the_chat(shop: Shop) -> None:
    app = app_of(shop)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: isinstance(app.screen, PullScreen) and "★" in shown(app))
        text = shown(app)
        first = shop.entries()[0]
        assert f"★ {first.name}" in text
        assert first.recipe.summary.split(";")[0] in " ".join(text.split())
        assert app.screen.query_one(DataTable).row_count == len(shop.entries())
        await pilot.press("enter")
        await until(lambda: f"licence {first.recipe.licence}" in " ".join(shown(app).split()))
        await pilot.press("enter")
        await until(lambda: "34% of 1.00 GB" in shown(app))
        shop.go.set()
        await until(lambda: isinstance(app.screen, ChatScreen))
        assert shop.pulled == [first.name]
        await until(lambda: app.session.status.runnable is not None)
        kinds = [type(screen) for screen in app.screen_stack]
        assert PullScreen not in kinds
        assert ModelsScreen not in kinds


async def test_escape_stops_a_download_and_then_goes_back(shop: Shop) -> None:
    app = app_of(shop)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: isinstance(app.screen, PullScreen))
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, Confirm))
        await pilot.press("enter")
        await until(lambda: "Esc stops" in shown(app))
        await pilot.press("escape")
        await until(lambda: "What arrived is kept: Enter goes on" in shown(app))
        assert shop.stopped == 1
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, ModelsScreen))
        await until(lambda: "Press g to download" in shown(app))
        await pilot.press("g")
        await until(lambda: isinstance(app.screen, PullScreen))


async def test_what_the_hub_refuses_is_said(tmp_path: Path) -> None:
    refused = BadInput("cannot reach the hub", "check the network")
    shop = Shop(demo.write_bundles(tmp_path)[0], refused)
    app = app_of(shop)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: isinstance(app.screen, PullScreen))
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, Confirm))
        await pilot.press("enter")
        await until(lambda: "check the network" in said(app))
        assert isinstance(app.screen, PullScreen)


async def test_where_there_are_bundles_they_come_first(shop: Shop) -> None:
    app = app_of(shop, shop.bundle)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "quality" in shown(app))
        assert isinstance(app.screen, ModelsScreen)
        await pilot.press("g")
        await until(lambda: isinstance(app.screen, PullScreen))

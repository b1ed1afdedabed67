"""Ready models for this machine: the catalogue, to download one and chat with it."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import DataTable, Static

from pitool.catalog.bundles import Runnable, choose
from pitool.chat.status import size_text
from pitool.errors import Interrupted, MissingPart
from pitool.report.numbers import format_bytes, format_speed
from pitool.report.tables import Column
from pitool.tui.context import Context
from pitool.tui.messages import SessionChanged
from pitool.tui.screens.base import BaseScreen
from pitool.tui.screens.dialogs import Confirm
from pitool.tui.widgets.header import HeaderLine
from pitool.tui.widgets.keys import Keys
from pitool.tui.widgets.notice import NoticeLine
from pitool.tui.widgets.table import FitTable
from pitool.tui.widgets.work import ShownProgress

if TYPE_CHECKING:
    from pitool.planning.catalogue import Entry

_COLUMNS = (
    Column("model", "left", "middle"),
    Column("quant", "left", priority=1),
    Column("size"),
    Column("memory", priority=3),
    Column("t/s"),
    Column("licence", "left", priority=2),
)


class PullScreen(BaseScreen[Runnable | None]):
    """Returns the artifact that was downloaded, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "back", "Back")]
    TITLE = "Ready models that fit this machine"
    DEFAULT_CSS = """
    PullScreen {
        FitTable { height: 1fr; margin: 1 1 0 1; background: $background; }
        #details { height: auto; margin: 1 2 0 2; }
        #work { height: auto; margin: 1 2 0 2; display: none; }
    }
    """

    def __init__(self, context: Context, _: str = "") -> None:
        super().__init__(context)
        if context.market is None:
            raise MissingPart("no models can be downloaded here", "use pitool pull in a shell")
        self._market = context.market()
        self._entries: list[Entry] = []
        self._end = threading.Event()
        self._working = False

    def compose(self) -> ComposeResult:
        """Lay out the screen from top to bottom."""
        yield HeaderLine()
        yield FitTable(_COLUMNS)
        yield Static(id="details")
        yield Static(id="work")
        yield NoticeLine()
        yield Keys()

    def on_mount(self) -> None:
        """List what there is."""
        self.query_one(HeaderLine).show(self.session.status)
        self._entries = self._market.entries()
        table = self.query_one(FitTable)
        table.show([_cells(entry) for entry in self._entries])
        table.focus()
        self._show_details(0)

    def on_session_changed(self, _: SessionChanged) -> None:
        """Show what the worker does now."""
        self.query_one(HeaderLine).show(self.session.status)

    def on_unmount(self) -> None:
        """End a download; what has arrived is kept."""
        self._end.set()

    @on(DataTable.RowHighlighted)
    def _highlighted(self, event: DataTable.RowHighlighted) -> None:
        self._show_details(event.cursor_row)

    def _show_details(self, row: int) -> None:
        text = Content("No model of the catalogue fits this machine.")
        if row < len(self._entries):
            text = _details(self._entries[row])
        self.query_one("#details", Static).update(text)

    @on(DataTable.RowSelected)
    def _chosen(self, event: DataTable.RowSelected) -> None:
        """Ask, then download."""
        if self._working:
            return
        entry = self._entries[event.cursor_row]
        about = "about " * entry.estimated
        question = (
            f"Download {entry.name} ({about}{format_bytes(entry.bytes)},"
            f" licence {entry.recipe.licence}) and chat with it?"
        )
        self.ask(
            Confirm(question, "Download", harmless=True),
            lambda yes: self._pull(entry) if yes else None,
        )

    @work
    async def _pull(self, entry: Entry) -> None:
        self._working = True
        self._end.clear()
        progress = ShownProgress(self._tell_work, self._end)
        try:
            bundle = await asyncio.to_thread(self._market.pull, entry, progress)
        except Interrupted:
            self._show_work(Content("Stopped. What arrived is kept: Enter goes on."))
        except Exception:
            self._show_work(Content(""))
            raise
        else:
            if self.is_attached:
                self.dismiss(choose(bundle))
        finally:
            self._working = False

    def _tell_work(self, text: Content) -> None:
        if not self._end.is_set():
            self.app.call_from_thread(self._show_work, text)

    def _show_work(self, text: Content) -> None:
        if self.is_mounted:
            shown = self.query_one("#work", Static)
            shown.display = bool(text)
            shown.update(text)

    def action_back(self) -> None:
        """End the download, or go back without a choice."""
        if self._working:
            self._end.set()
        else:
            self.dismiss(None)


def _cells(entry: Entry) -> list[str]:
    return [
        ("★ " if entry.recommended else "  ") + entry.name,
        entry.recipe.quantisation,
        ("~" if entry.estimated else "") + size_text(entry.bytes),
        size_text(entry.needed),
        "–" if entry.decode is None else format_speed(entry.decode),
        entry.recipe.licence,
    ]


def _details(entry: Entry) -> Content:
    """Return what the model is good at, and where it comes from."""
    found = entry.recipe.gguf
    where = found.repository if found else entry.recipe.source
    first = "Recommended here: " if entry.recommended else ""
    return Content.assemble(
        (first, "bold"),
        entry.recipe.summary,
        "\n",
        (f"from {where} · Enter downloads it", "$foreground 60%"),
    )

"""The models: every artifact of every bundle on this machine, to load, verify or delete."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import DataTable, Static

from pitool.catalog.bundles import Bundle, Runnable, choose, delete
from pitool.catalog.integrity import Damage, damaged_files
from pitool.catalog.manifest import Artifact
from pitool.chat.status import Phase, size_text
from pitool.errors import Interrupted, PitoolError, UsageError
from pitool.report.progress import stage_of
from pitool.report.tables import Column
from pitool.store.conversation import Notice
from pitool.tui import details
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
    from pitool.device.forecast import Forecast

_COLUMNS = (
    Column("model", "left", "middle"),
    Column("format", "left", priority=4),
    Column("quant", "left"),
    Column("size", priority=1),
    Column("context", priority=5),
    Column("t/s", priority=2),
    Column("memory", priority=3),
    Column("here", "left"),
)


class ModelTable(FitTable):
    """A table whose rows are loaded by Enter."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select_cursor", "Load")]

    def __init__(self) -> None:
        super().__init__(_COLUMNS)


class ModelsScreen(BaseScreen[Runnable | None]):
    """Returns the artifact that was chosen, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "last", "Last chat"),
        Binding("v", "verify", "Verify"),
        Binding("d,delete", "delete", "Delete"),
        Binding("g", "get", "Get a model"),
        Binding("c", "app.open_screen('compare')", "Compare"),
        Binding("f3,ctrl+o", "app.open_screen('chats')", "Chats", priority=True),
        Binding("r", "refresh_list", "Refresh"),
        Binding("escape", "back", "Back"),
    ]
    TITLE = "Models: every artifact of every bundle on this machine"
    DEFAULT_CSS = """
    ModelsScreen {
        ModelTable { height: auto; max-height: 1fr; margin: 1 1 0 1; background: $background; }
        #details { height: auto; margin: 1 2 0 2; }
        #work { height: auto; margin: 1 2 0 2; display: none; }
        #notices { height: auto; margin: 1 2 0 2; color: $text-warning; }
        #space { height: 1fr; }
    }
    """

    def __init__(self, context: Context, _: str = "") -> None:
        super().__init__(context)
        self._choices: list[tuple[Bundle, Artifact]] = []
        self._end = threading.Event()
        self._working = False

    def compose(self) -> ComposeResult:
        """Lay out the screen from top to bottom."""
        yield HeaderLine()
        yield ModelTable()
        yield Static(id="details")
        yield Static(id="work")
        yield Static(id="notices")
        yield Vertical(id="space")
        yield NoticeLine()
        yield Keys("refresh_list", "verify")

    def on_mount(self) -> None:
        """List the bundles."""
        self.query_one(HeaderLine).show(self.session.status)
        self.action_refresh_list()
        self._mark_last()
        if not self._choices and self.context.market is not None:
            self.call_after_refresh(self.action_get)

    def on_session_changed(self, _: SessionChanged) -> None:
        """Show what the worker does now."""
        self.query_one(HeaderLine).show(self.session.status)

    def on_unmount(self) -> None:
        """End what still reads files."""
        self._end.set()

    def action_refresh_list(self) -> None:
        """Look again at what there is."""
        bundles, broken = self.context.bundles()
        self._choices = [(b, a) for b in bundles for a in b.manifest.artifacts]
        table = self.query_one(ModelTable)
        table.show([_cells(b, a, self._verdict(a)) for b, a in self._choices])
        table.display = bool(self._choices)
        if self._choices:
            table.focus()
        self._show_details(table.cursor_row)
        self._say(broken)
        self.refresh_bindings()

    def _mark_last(self) -> None:
        """Have the cursor begin on what was loaded last."""
        last = self.context.last_model()
        for row, (_, artifact) in enumerate(self._choices):
            if last is not None and artifact == last.artifact:
                self.query_one(ModelTable).move_cursor(row=row)

    def action_last(self) -> None:
        """Go on with the model and the conversation of the last time."""
        if (last := self.context.last_model()) is None:
            raise UsageError("no model was loaded here before", "choose one and press Enter")
        self.context.resume()
        self.dismiss(last)

    def action_get(self) -> None:
        """Show the catalogue; what was downloaded there is what is chosen here."""
        from pitool.tui.screens.pull import PullScreen

        self.app.push_screen(PullScreen(self.context), self._got)

    def _got(self, runnable: Runnable | None) -> None:
        if runnable is not None:
            self.dismiss(runnable)
        else:
            self.action_refresh_list()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Leave out of the footer what would do nothing now."""
        if action == "get":
            return self.context.market is not None
        return bool(self._choices) if action in ("verify", "delete") else True

    def _verdict(self, artifact: Artifact) -> Forecast | None:
        return self.context.judge(artifact) if self.context.judge else None

    @on(DataTable.RowHighlighted)
    def _highlighted(self, event: DataTable.RowHighlighted) -> None:
        self._show_details(event.cursor_row)

    def _show_details(self, row: int) -> None:
        if row < len(self._choices):
            artifact = self._choices[row][1]
            text = details.details(artifact, self._verdict(artifact))
        else:
            text = details.empty()
        self.query_one("#details", Static).update(text)

    def _say(self, errors: list[PitoolError]) -> None:
        lines = (error.what + Notice(error.what, error.do).advice for error in errors)
        self.query_one("#notices", Static).update(Content("\n".join(lines)))

    @property
    def _chosen(self) -> tuple[Bundle, Artifact] | None:
        row = self.query_one(ModelTable).cursor_row
        return self._choices[row] if row < len(self._choices) else None

    @on(DataTable.RowSelected)
    def _load(self) -> None:
        """Return the artifact under the cursor, if its files are there."""
        if (chosen := self._chosen) is None:
            return
        bundle, artifact = chosen
        self.dismiss(choose(bundle, artifact.quantisation))

    def action_back(self) -> None:
        """End what runs, or go back without a choice."""
        if self._working:
            self._end.set()
        else:
            self.dismiss(None)

    def action_verify(self) -> None:
        """Read all files of the bundle and compare their sha256."""
        if (chosen := self._chosen) is not None and not self._working:
            self._verify(chosen[0])

    @work
    async def _verify(self, bundle: Bundle) -> None:
        self._begin()
        name = bundle.path.name
        shown = ShownProgress(self._tell_work, self._end)
        on_bytes = stage_of(shown, f"Verifying {name}", bytes_=True)
        try:
            damage = await asyncio.to_thread(damaged_files, bundle, on_bytes)
        except Interrupted:
            self._say([])
            self._show_work(Content(f"Verifying {name} was stopped."))
        else:
            self._show_work(_result(name, damage))
        finally:
            self._working = False

    def _begin(self) -> None:
        self._working = True
        self._end.clear()

    def _tell_work(self, text: Content) -> None:
        """Show a line from a thread."""
        if not self._end.is_set():
            self.app.call_from_thread(self._show_work, text)

    def _show_work(self, text: Content) -> None:
        if self.is_mounted:
            shown = self.query_one("#work", Static)
            shown.display = bool(text)
            shown.update(text)

    def action_delete(self) -> None:
        """Ask, then delete the bundle."""
        if (chosen := self._chosen) is None or self._working:
            return
        bundle = chosen[0]
        artifacts = bundle.manifest.artifacts
        if self._in_use(bundle):
            raise UsageError(f"{bundle.path.name} is loaded", "press F9 in the chat to unload it")
        size = size_text(sum(artifact.bytes for artifact in artifacts))
        kinds = ", ".join(artifact.quantisation for artifact in artifacts)
        question = f"Delete {bundle.path} with {kinds} ({size})? This cannot be undone."
        self.ask(Confirm(question, "Delete"), lambda yes: self._delete(bundle) if yes else None)

    def _in_use(self, bundle: Bundle) -> bool:
        runnable = self.session.status.runnable
        if runnable is None or self.session.status.phase is Phase.UNLOADED:
            return False
        return bundle.path.resolve() in runnable.entry.resolve().parents

    @work
    async def _delete(self, bundle: Bundle) -> None:
        self._begin()
        try:
            await asyncio.to_thread(delete, bundle)
            self._show_work(Content(f"Deleted {bundle.path.name}."))
            self.action_refresh_list()
        finally:
            self._working = False


def _cells(bundle: Bundle, artifact: Artifact, verdict: Forecast | None) -> list[str]:
    return [
        bundle.manifest.name,
        artifact.format,
        artifact.quantisation,
        size_text(artifact.bytes),
        str(artifact.context),
        details.decode_rate(artifact, verdict),
        size_text(details.needed(artifact, verdict)),
        details.mark(verdict),
    ]


def _result(name: str, damage: list[Damage]) -> Content:
    """Return what a check found."""
    if not damage:
        return Content.styled(f"{name}: all checksums match the manifest.", "$text-success")
    listed = ", ".join(f"{one.path} {one.why}" for one in damage)
    return Content.styled(f"{name}: {listed}; convert or copy the bundle again.", "$text-error")

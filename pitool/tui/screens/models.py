"""The models: every artifact of every bundle on this machine; Enter loads one."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.console import JustifyMethod
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Static

from pitool.errors import PitoolError
from pitool.spec.bundles import Bundle, Runnable, choose, default_folder
from pitool.spec.manifest import Artifact
from pitool.store.conversation import Notice
from pitool.tui import figures
from pitool.tui.widgets.header import HeaderLine

Bundles = Callable[[], tuple[list[Bundle], list[PitoolError]]]
"""Lists what there is, and why the rest cannot be read."""

_DIM = "$foreground 60%"
_COLUMNS: dict[str, JustifyMethod] = {
    "model": "left",
    "format": "left",
    "quant": "left",
    "size": "right",
    "context": "right",
    "decode t/s": "right",
    "memory": "right",
}


class ModelTable(DataTable[Text]):
    """A table whose rows are loaded by Enter."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select_cursor", "Load")]

    def __init__(self) -> None:
        super().__init__(cursor_type="row")


class ModelsScreen(Screen[Runnable | None]):
    """Returns the artifact that was chosen, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "refresh_list", "Refresh"),
        Binding("escape", "dismiss_none", "Back"),
    ]
    DEFAULT_CSS = """
    ModelsScreen {
        DataTable { height: auto; max-height: 1fr; margin: 1 1 0 1; background: $background; }
        #details { height: auto; margin: 1 2 0 2; }
        #notices { height: auto; margin: 1 2 0 2; color: $text-warning; }
        #space { height: 1fr; }
    }
    """

    def __init__(self, bundles: Bundles) -> None:
        super().__init__()
        self._bundles = bundles
        self._choices: list[tuple[Bundle, Artifact]] = []

    def compose(self) -> ComposeResult:
        """Lay out the screen from top to bottom."""
        yield HeaderLine()
        yield ModelTable()
        yield Static(id="details")
        yield Static(id="notices")
        yield Vertical(id="space")
        yield Footer()

    def on_mount(self) -> None:
        """List the bundles."""
        table = self.query_one(ModelTable)
        for name, justify in _COLUMNS.items():
            table.add_column(Text(name, justify=justify))
        self.action_refresh_list()

    def action_refresh_list(self) -> None:
        """Look again at what there is."""
        bundles, broken = self._bundles()
        self._choices = [(b, a) for b in bundles for a in b.manifest.artifacts]
        table = self.query_one(ModelTable)
        table.clear()
        for bundle, artifact in self._choices:
            table.add_row(*_cells(bundle, artifact))
        table.display = bool(self._choices)
        if self._choices:
            table.focus()
        self._show_details(0)
        self._say(broken)

    @on(DataTable.RowHighlighted)
    def _highlighted(self, event: DataTable.RowHighlighted) -> None:
        self._show_details(event.cursor_row)

    def _show_details(self, row: int) -> None:
        text = details(self._choices[row][1]) if row < len(self._choices) else empty()
        self.query_one("#details", Static).update(text)

    def _say(self, errors: list[PitoolError]) -> None:
        lines = (error.what + Notice(error.what, error.do).advice for error in errors)
        self.query_one("#notices", Static).update(Content("\n".join(lines)))

    @on(DataTable.RowSelected)
    def _load(self) -> None:
        """Return the artifact under the cursor, if its files are there."""
        row = self.query_one(ModelTable).cursor_row
        if row >= len(self._choices):
            return
        bundle, artifact = self._choices[row]
        try:
            self.dismiss(choose(bundle, artifact.quantisation))
        except PitoolError as error:
            self._say([error])

    def action_dismiss_none(self) -> None:
        """Go back without a choice."""
        self.dismiss(None)


def _cells(bundle: Bundle, artifact: Artifact) -> list[Text]:
    texts = [
        bundle.manifest.name,
        artifact.format,
        artifact.quantisation,
        figures.size(artifact.bytes),
        str(artifact.context),
        figures.span(artifact.speed),
        figures.size(sum(line.bytes for line in artifact.memory) or None),
    ]
    sides = _COLUMNS.values()
    return [Text(text, justify=side) for text, side in zip(texts, sides, strict=True)]


def details(artifact: Artifact) -> Content:
    """Return the memory plan, the predicted speeds and the quality of an artifact."""
    lines = []
    if artifact.memory:
        plan = " + ".join(f"{line.name} {figures.size(line.bytes)}" for line in artifact.memory)
        lines.append(("memory", plan))
    if artifact.speed:
        boards = (
            f"{s.board} prefill {s.prefill:.0f}, decode {s.decode:.1f} t/s" for s in artifact.speed
        )
        lines.append(("speed", " · ".join(boards)))
    if (measured := artifact.certificate) is not None:
        quality = f"top-1 agreement {measured.top1:.1%} · mean KL {measured.mean_kl:.4f} nats"
        lines.append(("quality", quality))
    return Content("\n").join(
        Content.assemble((f"{label:<9}", _DIM), value) for label, value in lines
    )


def empty() -> Content:
    """Return what to do when there is no bundle."""
    return Content.assemble(
        (f"There is no bundle in {default_folder()} yet.", "bold"),
        "\n\nMake one here, without any download:\n\n    ",
        ("pitool convert sample --ram 1gb", "$text-primary"),
        "\n\nor copy the folder of a bundle there, and press r.",
    )

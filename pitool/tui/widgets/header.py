"""The first line: what runs on the left, what it is doing on the right."""

from __future__ import annotations

from textual.content import Content
from textual.widget import Widget

from pitool.spec.bundles import Runnable
from pitool.tui.status import Phase, Status

_SIGNS = {
    Phase.UNLOADED: ("○", "$foreground 60%"),
    Phase.LOADING: ("◐", "$warning"),
    Phase.READY: ("●", "$success"),
    Phase.READING: ("◐", "$warning"),
    Phase.ANSWERING: ("●", "$primary"),
}


class HeaderLine(Widget):
    """The name of the program, the model, and the state of the worker."""

    DEFAULT_CSS = """
    HeaderLine { height: 1; background: $panel; padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._status = Status()

    def show(self, status: Status) -> None:
        """Show another status."""
        before, self._status = self._status, status
        if (before.phase, before.runnable) != (status.phase, status.runnable):
            self.refresh()

    def render(self) -> Content:
        """Return the line, the model cut off where it has no room."""
        sign, style = _SIGNS[self._status.phase]
        right = Content.assemble((sign, style), f" {self._status.phase.value}")
        left = Content.assemble(("π ", "bold $primary"), ("pitool  ", "bold"))
        left += model_name(self._status.runnable)
        room = max(self.size.width - right.cell_length - 1, 0)
        left = left.truncate(room, ellipsis=True)
        return left + " " * (room + 1 - left.cell_length) + right


def model_name(runnable: Runnable | None) -> Content:
    """Return name, quantisation and format of a model."""
    if runnable is None:
        return Content.styled("no model", "$foreground 60%")
    kind = f" {runnable.quantisation} · {runnable.format}"
    return Content.assemble(runnable.name, (kind, "$foreground 60%"))

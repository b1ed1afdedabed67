"""The first line: what runs on the left, what it is doing on the right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content
from textual.widget import Widget

from pitool.catalog.bundles import Runnable
from pitool.chat.status import Phase, Status
from pitool.report.numbers import format_celsius, format_gigahertz
from pitool.report.text import shorten

if TYPE_CHECKING:
    from pitool.device.monitor import Sample

NARROWEST = 8
"""Cells that a name keeps, however narrow the terminal is."""

LEAST_NAMED = 30
"""Cells for the name of the model beside the sensors, or they give way to it."""

HOT_CELSIUS = 80
"""From here on the firmware of a Raspberry Pi slows the clock down."""

_SIGNS = {
    Phase.UNLOADED: ("○", "$foreground 60%"),
    Phase.LOADING: ("◐", "$warning"),
    Phase.READY: ("●", "$success"),
    Phase.READING: ("◐", "$warning"),
    Phase.ANSWERING: ("●", "$primary"),
    Phase.MEASURING: ("◐", "$warning"),
}


class HeaderLine(Widget):
    """The name of the program, the model, and the state of the worker."""

    DEFAULT_CSS = """
    HeaderLine { height: 1; background: $panel; padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._status = Status()
        self._title = ""
        self._sensors = Content()
        self._stale = False

    def name_it(self, title: str) -> None:
        """Show the name of a conversation, where it has one."""
        if title != self._title:
            self._title = title
            self.refresh()

    def sense(self, sample: Sample | None) -> None:
        """Show temperature, clock and throttling as they are now."""
        words = sensors_line(sample)
        if self._stale or words != self._sensors:
            self._sensors, self._stale = words, False
            self.refresh()

    def show(self, status: Status) -> None:
        """Show another status."""
        before, self._status = self._status, status
        self._stale = status.busy and (self._stale or not before.busy)
        if (before.phase, before.runnable) != (status.phase, status.runnable):
            self.refresh()

    def render(self) -> Content:
        """Return the line, the model cut off where it has no room."""
        sign, style = _SIGNS[self._status.phase]
        right = Content.assemble((sign, style), f" {self._status.phase.value}")
        wide = self.size.width - right.cell_length - self._sensors.cell_length >= LEAST_NAMED
        if self._sensors and wide:
            age = Content.styled(" before", "$foreground 60%" if self._stale else "")
            right = self._sensors + (age if self._stale else "") + "  " + right
        left = Content.assemble(("π ", "bold $primary"), ("pitool  ", "bold"))
        room = max(self.size.width - right.cell_length - 1, 0)
        left += model_name(self._status.runnable, room - left.cell_length)
        if self._title:
            left += Content.assemble(("  │  ", "$foreground 30%"), self._title)
        left = left.truncate(room, ellipsis=True)
        return left + " " * (room + 1 - left.cell_length) + right


def sensors_line(sample: Sample | None) -> Content:
    """Return ``51 °C 2.4 GHz``, with a badge when the firmware holds the board back."""
    parts = []
    if sample is None:
        return Content()
    if sample.throttled_now:
        parts.append(Content.styled(f" {sample.throttled_now[0]} ", "$background on $warning"))
    if sample.temperature_c is not None:
        hot = "$warning" if sample.temperature_c >= HOT_CELSIUS else "$foreground 60%"
        parts.append(Content.styled(format_celsius(sample.temperature_c), hot))
    if sample.clock_mhz is not None:
        parts.append(Content.styled(format_gigahertz(sample.clock_mhz), "$foreground 60%"))
    return Content(" ").join(parts)


def model_name(runnable: Runnable | None, room: int) -> Content:
    """Return name, quantisation and format of a model, the middle of a long name left out."""
    if runnable is None:
        return Content.styled("no model", "$foreground 60%")
    kind = f" {runnable.quantisation} · {runnable.format}"
    if room - len(kind) < NARROWEST:
        kind = f" {runnable.quantisation}"
    name = shorten(runnable.name, max(room - len(kind), NARROWEST))
    return Content.assemble(name, (kind, "$foreground 60%"))

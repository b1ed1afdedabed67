"""The sensors over time: one chart per figure, all over the same time span."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.content import Content
from textual.widget import Widget

from pitool.report.blocks import bars, columns
from pitool.report.numbers import (
    format_bytes,
    format_celsius,
    format_megahertz,
    format_rate,
    format_share,
)

if TYPE_CHECKING:
    from pitool.device.sensor_history import TimedSample

UNKNOWN = "unknown"
_LABEL_WIDTH = 13
_SCALE_WIDTH = 8
_DIM = "$foreground 60%"


@dataclass(frozen=True, slots=True)
class Series:
    """What is drawn: ``value`` of a point, None where unknown; bars from ``low`` to ``high``.

    ``high`` None: up to the largest value. ``held``: columns in which the firmware held the board
    back are marked.
    """

    name: str
    value: Callable[[TimedSample], float | None]
    words: Callable[[float], str]
    low: float = 0.0
    high: float | None = None
    held: bool = False
    absent: str = UNKNOWN


def _rate(value: float) -> str:
    return format_rate(value) if value > 0 else "idle"


SERIES = (
    Series("temperature", lambda p: p.sample.temperature_c, format_celsius, 20, 90, held=True),
    Series("clock", lambda p: p.sample.clock_mhz, format_megahertz, held=True),
    Series("CPU", lambda p: p.sample.cpu, format_share, high=1.0),
    Series("memory free", lambda p: p.sample.available_bytes, format_bytes),
    Series(
        "model memory",
        lambda p: p.sample.worker_bytes,
        format_bytes,
        absent="not loaded",
    ),
    Series("decode", lambda p: p.rate, _rate),
)


class Charts(Widget):
    """All series one below the other; ``rows`` lines each."""

    DEFAULT_CSS = """
    Charts { padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._points: Sequence[TimedSample] = ()

    def show(self, points: Sequence[TimedSample]) -> None:
        """Show other points."""
        self._points = list(points)
        self.refresh()

    def render(self) -> Content:
        """Return the charts for the present size."""
        rows = max(self.size.height // len(SERIES), 1)
        lines = [
            line
            for series in SERIES
            for line in chart_lines(series, self._points, self.size.width, rows)
        ]
        return Content("\n").join(lines)


def chart_lines(
    series: Series, points: Sequence[TimedSample], width: int, rows: int
) -> list[Content]:
    """Return ``rows`` lines: name and present value, bars, and what top and bottom stand for."""
    known = [(p.sample.time, v) for p in points if (v := series.value(p)) is not None]
    now = series.value(points[-1]) if points else None
    value = series.absent if now is None else series.words(now)
    labels = [Content.styled(series.name.ljust(_LABEL_WIDTH), _DIM), Content(value)]
    if rows == 1:
        labels = [Content(f"{value:<{_LABEL_WIDTH}}")]
    room = max(width - _LABEL_WIDTH - _SCALE_WIDTH - 2, 1)
    if not known:
        drawn, scale = [Content()] * rows, ("", "")
    else:
        span = (points[0].sample.time, points[-1].sample.time)
        means = columns(known, room, span)
        low, high = series.low, series.high or max(max(means), series.low) or 1.0
        held = [(p.sample.time, float(bool(p.sample.throttled_now))) for p in points]
        marks = columns(held, room, span) if series.held else [0.0] * room
        drawn = [_coloured(line, marks) for line in bars(means, rows, low, high)]
        top = series.words(high) if high > max(means) or max(means) > 0 else ""
        scale = (top, series.words(low) if low else "0")
    lines = []
    for row in range(rows):
        label = labels[row] if row < len(labels) else Content()
        ends = scale[0] if row == 0 else scale[1] if row == rows - 1 else ""
        bar = drawn[row].pad_right(room - drawn[row].cell_length)
        line = label.pad_right(_LABEL_WIDTH - label.cell_length) + " " + bar + " "
        lines.append(line + Content.styled(f"{ends:>{_SCALE_WIDTH}}", _DIM))
    return lines


def _coloured(bar: str, marks: Sequence[float]) -> Content:
    """Return a line of bars, those in marked columns in the colour of a warning."""
    text = Content.styled(bar, "$primary")
    for place, mark in enumerate(marks):
        if mark:
            text = text.stylize("$warning", place, place + 1)
    return text

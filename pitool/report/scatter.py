"""Scatter plots as SVG: marks between two axes that say what is better, labels that do not overlap.

Draws; what is drawn, and which of it is best, is the caller's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Literal

from pitool.report.canvas import AXIS, FAINT, GRID, RADIUS, Canvas, Colour, text_width
from pitool.report.scales import Scale, linear, logarithmic, plain

WIDTH, HEIGHT = 860, 480
LEFT, RIGHT, BOTTOM = 64, 28, 78
# Where the topmost pixel of a plot with one line of legend is.
TOP = 88
SIZE, LINE = 11, 13

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """What is counted, with its unit, and whether ``more`` or ``less`` of it is better."""

    title: str
    better: Literal["more", "less"]


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark at ``x`` and ``y``; ``named``: its label is written beside it where there is room."""

    label: str
    x: float
    y: float
    colour: Colour
    hint: str
    hollow: bool = False
    named: bool = True


@dataclass(frozen=True, slots=True)
class Front:
    """A line through the best marks."""

    colour: Colour
    marks: Sequence[Mark]


@dataclass(frozen=True, slots=True)
class Scatter:
    """Marks between the axes ``across`` and ``up``.

    ``fronts``: lines through marks; ``legend``: name, colour and whether hollow; ``level``: a
    value of ``up`` that is worth a line, with its words; ``note`` is written below; ``log``: both
    axes are logarithmic.
    """

    title: str
    across: Axis
    up: Axis
    marks: Sequence[Mark]
    fronts: Sequence[Front] = ()
    legend: Sequence[tuple[str, Colour, bool]] = ()
    level: tuple[float, str] | None = None
    note: str = ""
    log: bool = False

    def to_svg(self) -> str:
        """Return the picture."""
        canvas = Canvas(WIDTH, HEIGHT, label=self.title)
        canvas.text(24, 32, self.title, 16, bold=True)
        top = self._draw_legend(canvas) + 34
        scale = logarithmic if self.log else linear
        x = scale([mark.x for mark in self.marks], LEFT, WIDTH - RIGHT)
        y = scale([mark.y for mark in self.marks], HEIGHT - BOTTOM, top)
        self._draw_axes(canvas, x, y, top)
        taken = [_around(x.at(mark.x), y.at(mark.y), RADIUS + 1) for mark in self.marks]
        taken += self._draw_level(canvas, y, taken)
        for front in self.fronts:
            canvas.line(
                ((x.at(m.x), y.at(m.y)) for m in front.marks), front.colour, dashed=self.log
            )
        for mark in self.marks:
            place = x.at(mark.x), y.at(mark.y)
            canvas.mark(*place, mark.colour, hollow=mark.hollow, hint=mark.hint)
        self._draw_labels(canvas, x, y, top, taken)
        return canvas.to_svg()

    def _draw_legend(self, canvas: Canvas) -> float:
        """Write the legend in as many lines as it takes; return the pixel of the last one."""
        x, y = 24.0, 54.0
        for name, colour, hollow in self.legend:
            width = text_width(name, SIZE) + 32
            if x + width > WIDTH - RIGHT and x > 24:
                x, y = 24.0, y + 18
            canvas.mark(x + RADIUS, y - 4, colour, hollow=hollow)
            canvas.text(x + 14, y, name, SIZE)
            x += width
        return y if self.legend else 36.0

    def _draw_axes(self, canvas: Canvas, x: Scale, y: Scale, top: float) -> None:
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        for tick in x.ticks:
            canvas.rule(x.at(tick), top, x.at(tick), bottom, GRID)
            canvas.text(x.at(tick), bottom + 17, plain(tick), SIZE, anchor="middle", colour=FAINT)
        for tick in y.ticks:
            canvas.rule(LEFT, y.at(tick), right, y.at(tick), GRID)
            canvas.text(LEFT - 7, y.at(tick) + 4, plain(tick), SIZE, anchor="end", colour=FAINT)
        canvas.rule(LEFT, bottom, right, bottom, AXIS)
        canvas.rule(LEFT, top, LEFT, bottom, AXIS)
        canvas.text(24, top - 13, f"{_arrow(self.up, '↑', '↓')} {_said(self.up)}", 12)
        across = f"{_said(self.across)} {_arrow(self.across, '→', '←')}"
        canvas.text(right, bottom + 38, across, 12, anchor="end")
        canvas.text(24, HEIGHT - 16, self.note, SIZE, colour=FAINT)

    def _draw_level(self, canvas: Canvas, y: Scale, taken: Sequence[Box]) -> list[Box]:
        """Draw the level, if it is on the axis and not at its end; return the box of its words."""
        if self.level is None or not y.low < self.level[0] <= y.high:
            return []
        value, words = self.level
        right, at = WIDTH - RIGHT, y.at(value)
        if y.at(y.low) - at < 2 * LINE:
            return []
        canvas.line([(LEFT, at), (right, at)], AXIS, dashed=True)
        width = text_width(words, SIZE)
        for end in (right - 4, LEFT + 6 + width):
            box = (end - width, at - 5 - LINE, end, at)
            if not _covers(box, taken):
                canvas.text(end, at - 5, words, SIZE, anchor="end", colour=FAINT, halo=True)
                return [box]
        return []

    def _draw_labels(
        self, canvas: Canvas, x: Scale, y: Scale, top: float, taken: list[Box]
    ) -> None:
        """Write the labels that find room, those of the fronts first, off the lines if possible."""
        area = (float(LEFT), top, float(WIDTH - 4), float(HEIGHT - BOTTOM))
        best = {mark.label for front in self.fronts for mark in front.marks}
        wanted = sorted(
            (mark for mark in self.marks if mark.named), key=lambda mark: mark.label not in best
        )
        lines = [
            _around(*point, 2)
            for front in self.fronts
            for point in _along([(x.at(mark.x), y.at(mark.y)) for mark in front.marks])
        ]
        for mark in wanted:
            free = [
                place
                for place in _places(x.at(mark.x), y.at(mark.y), mark.label)
                if _within(place.box, area) and not _covers(place.box, taken)
            ]
            if not free:
                continue
            place = min(free, key=lambda place: _covers(place.box, lines))
            taken.append(place.box)
            canvas.text(
                place.x, place.y, mark.label, SIZE,
                anchor=place.anchor, bold=self.log and mark.label in best, halo=True,
            )  # fmt: skip


def _said(axis: Axis) -> str:
    return f"{axis.title} ({axis.better} is better)"


def _arrow(axis: Axis, more: str, less: str) -> str:
    return more if axis.better == "more" else less


def _along(points: Sequence[tuple[float, float]]) -> Iterable[tuple[float, float]]:
    """Yield points along a line, a few pixels apart."""
    for (x1, y1), (x2, y2) in pairwise(points):
        steps = ceil(max(abs(x2 - x1), abs(y2 - y1)) / 4) or 1
        for i in range(steps):
            yield x1 + (x2 - x1) * i / steps, y1 + (y2 - y1) * i / steps


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a label may stand, and the box that it takes there."""

    x: float
    y: float
    anchor: str
    box: Box


def _places(x: float, y: float, label: str) -> Iterable[_Place]:
    """Yield where a label may stand beside its mark: right, left, above, below, in the corners."""
    width = text_width(label, SIZE)
    before = {"start": 0.0, "middle": width / 2, "end": width}
    rows = ((8, 4, "start"), (-8, 4, "end"), (0, -9, "middle"), (0, 18, "middle"),
            (6, -7, "start"), (6, 15, "start"), (-6, -7, "end"), (-6, 15, "end"))  # fmt: skip
    for right, down, anchor in rows:
        left, base = x + right - before[anchor], y + down
        box = (left, base - LINE + 3, left + width, base + 2)
        yield _Place(x + right, base, anchor, box)


def _around(x: float, y: float, radius: float) -> Box:
    return (x - radius, y - radius, x + radius, y + radius)


def _within(box: Box, area: Box) -> bool:
    return box[0] >= area[0] and box[1] >= area[1] and box[2] <= area[2] and box[3] <= area[3]


def _covers(box: Box, others: Iterable[Box]) -> bool:
    return any(
        box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
        for other in others
    )

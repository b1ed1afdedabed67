"""Pictures as SVG: a canvas, axes, and scatter plots whose labels do not cover each other.

Everything that is written is escaped: names come from files that others wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import ceil, floor, log10

INK, FAINT, GRID = "#222222", "#555555", "#e4e4e4"
# Told apart by people who do not see colours as most do (Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
GREY = "#7a7a7a"

WIDTH, HEIGHT = 860, 470
LEFT, RIGHT, TOP, BOTTOM = 64, 28, 64, 56
# Width of a character of size 11, and height of a line of it.
CHARACTER, LINE = 6.8, 13
RADIUS = 4.5

Box = tuple[float, float, float, float]


class Canvas:
    """Collects what is drawn, in the order in which it is drawn."""

    def __init__(self, width: float, height: float, *, label: str, paper: str = "white") -> None:
        self.width, self.height = width, height
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}"'
            f' viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}"'
            ' font-family="system-ui, sans-serif">'
        )
        self._parts = [
            head,
            f'<rect width="{width:g}" height="{height:g}" fill="{paper}" rx="8"/>',
        ]

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: int,
        *,
        anchor: str = "start",
        bold: bool = False,
        colour: str = INK,
    ) -> None:
        """Write ``text`` from ``x`` on, up to it (``end``) or around it (``middle``)."""
        weight = ' font-weight="600"' if bold else ""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{weight}'
            f' fill="{colour}">{escape(text)}</text>'
        )

    def mark(self, x: float, y: float, colour: str, *, hollow: bool, hint: str = "") -> None:
        """Draw a round mark; ``hint`` is shown where it is pointed at."""
        title = f"<title>{escape(hint)}</title>" if hint else ""
        fill = "white" if hollow else colour
        self._parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS}" fill="{fill}" stroke="{colour}"'
            f' stroke-width="1.5">{title}</circle>'
        )

    def line(self, points: Iterable[tuple[float, float]], colour: str, *, dashed: bool) -> None:
        """Draw a line through points."""
        listed = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashes = ' stroke-dasharray="5 3"' if dashed else ""
        self._parts.append(
            f'<polyline points="{listed}" fill="none" stroke="{colour}" stroke-width="1.6"'
            f"{dashes}/>"
        )

    def path(self, commands: str, colour: str) -> None:
        """Draw a thin path of SVG's commands."""
        self._parts.append(f'<path d="{commands}" fill="none" stroke="{colour}"/>')

    def to_svg(self) -> str:
        """Return the picture."""
        return "\n".join([*self._parts, "</svg>", ""])


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values from ``low`` to ``high`` to pixels from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    place: Callable[[float], float] = float

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        low, high = self.place(self.low), self.place(self.high)
        share = (self.place(value) - low) / (high - low)
        return self.start + share * (self.end - self.start)


def linear(values: Sequence[float], start: float, end: float) -> Scale:
    """Return a scale from 0 to a round number above the values, of which one is above 0."""
    most = max(values) * 1.06
    power = 10.0 ** floor(log10(most))
    step = next(s * power for s in (0.1, 0.2, 0.25, 0.5, 1, 2) if most / (s * power) <= 7)
    count = ceil(most / step)
    return Scale(0.0, count * step, start, end, tuple(i * step for i in range(count + 1)))


def logarithmic(values: Sequence[float], start: float, end: float) -> Scale:
    """Return a scale for values above 0 with a margin: 1, 2 and 5 times powers of ten, or these."""
    low, high = min(values) / 1.35, max(values) * 1.35
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    decades = log10(high / low)
    steps = (1, 1.5, 2, 3, 4, 5, 7) if decades < 0.8 else (1, 2, 5) if decades < 2.5 else (1,)
    ticks = (step * 10.0**power for power in powers for step in steps)
    return Scale(low, high, start, end, tuple(t for t in ticks if low <= t <= high), log10)


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark at ``x`` and ``y``; ``named``: its label is written beside it where there is room."""

    label: str
    x: float
    y: float
    colour: str
    hint: str
    hollow: bool = False
    named: bool = True


@dataclass(frozen=True, slots=True)
class Scatter:
    """Marks between two axes, called ``across`` and ``up``.

    ``fronts``: lines through marks, each with its colour; ``legend``: name, colour and whether
    hollow; ``note`` is written below; ``log``: both axes are logarithmic.
    """

    title: str
    across: str
    up: str
    marks: Sequence[Mark]
    fronts: Sequence[tuple[str, Sequence[Mark]]] = ()
    legend: Sequence[tuple[str, str, bool]] = ()
    note: str = ""
    log: bool = False

    def to_svg(self) -> str:
        """Return the picture."""
        canvas = Canvas(WIDTH, HEIGHT, label=self.title)
        canvas.text(LEFT, 24, self.title, 15, bold=True)
        top = self._draw_legend(canvas) + 26
        scale = logarithmic if self.log else linear
        x = scale([mark.x for mark in self.marks], LEFT, WIDTH - RIGHT)
        y = scale([mark.y for mark in self.marks], HEIGHT - BOTTOM, top)
        self._draw_grid(canvas, x, y, top)
        for colour, front in self.fronts:
            canvas.line(((x.at(m.x), y.at(m.y)) for m in front), colour, dashed=self.log)
        for mark in self.marks:
            place = x.at(mark.x), y.at(mark.y)
            canvas.mark(*place, mark.colour, hollow=mark.hollow, hint=mark.hint)
        self._draw_labels(canvas, x, y, top)
        return canvas.to_svg()

    def _draw_legend(self, canvas: Canvas) -> float:
        """Write the legend in as many lines as it takes; return the pixel of the last one."""
        x, y = float(LEFT), 46.0
        for name, colour, hollow in self.legend:
            width = len(name) * CHARACTER + 32
            if x + width > WIDTH - RIGHT and x > LEFT:
                x, y = float(LEFT), y + 18
            canvas.mark(x + RADIUS, y - 4, colour, hollow=hollow)
            canvas.text(x + 14, y, name, 11)
            x += width
        return y if self.legend else 30.0

    def _draw_grid(self, canvas: Canvas, x: Scale, y: Scale, top: float) -> None:
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        for tick in x.ticks:
            canvas.path(f"M{x.at(tick):.1f} {top}V{bottom}", GRID)
            canvas.text(x.at(tick), bottom + 16, _plain(tick), 11, anchor="middle")
        for tick in y.ticks:
            canvas.path(f"M{LEFT} {y.at(tick):.1f}H{right}", GRID)
            canvas.text(LEFT - 6, y.at(tick) + 4, _plain(tick), 11, anchor="end")
        canvas.text(LEFT, top - 8, self.up, 11, colour=FAINT)
        canvas.text(right, HEIGHT - 22, self.across, 11, anchor="end", colour=FAINT)
        canvas.text(LEFT, HEIGHT - 8, self.note, 11, colour=FAINT)

    def _draw_labels(self, canvas: Canvas, x: Scale, y: Scale, top: float) -> None:
        """Write the labels that find room, those of the fronts first, off the lines if possible."""
        area = (float(LEFT), top, float(WIDTH), float(HEIGHT - BOTTOM))
        best = {mark.label for _, front in self.fronts for mark in front}
        wanted = sorted(
            (mark for mark in self.marks if mark.named), key=lambda mark: mark.label not in best
        )
        taken = [_around(x.at(mark.x), y.at(mark.y), RADIUS + 1) for mark in self.marks]
        lines = [
            _around(*point, 2)
            for _, front in self.fronts
            for point in _along([(x.at(mark.x), y.at(mark.y)) for mark in front])
        ]
        for mark in wanted:
            free = [
                place
                for place in _places(x.at(mark.x), y.at(mark.y), mark.label)
                if _within(place[2], area) and not _covers(place[2], taken)
            ]
            if not free:
                continue
            px, py, box = min(free, key=lambda place: _covers(place[2], lines))
            taken.append(box)
            canvas.text(px, py, mark.label, 11, bold=self.log and mark.label in best)


def _plain(tick: float) -> str:
    """Return a number without an exponent and without zeros at its end."""
    return f"{tick:.10f}".rstrip("0").rstrip(".")


def _along(points: Sequence[tuple[float, float]]) -> Iterable[tuple[float, float]]:
    """Yield points along a line, a few pixels apart."""
    for (x1, y1), (x2, y2) in pairwise(points):
        steps = ceil(max(abs(x2 - x1), abs(y2 - y1)) / 4) or 1
        for i in range(steps):
            yield x1 + (x2 - x1) * i / steps, y1 + (y2 - y1) * i / steps


def _places(x: float, y: float, label: str) -> Iterable[tuple[float, float, Box]]:
    """Yield where a label may begin beside its mark, with the box that it takes there."""
    width = len(label) * CHARACTER
    rows = ((8, 4), (-8 - width, 4), (-width / 2, -9), (-width / 2, 18),
            (6, -7), (6, 15), (-6 - width, -7), (-6 - width, 15))  # fmt: skip
    for right, down in rows:
        left, base = x + right, y + down
        yield left, base, (left, base - LINE + 3, left + width, base + 2)


def _around(x: float, y: float, radius: float) -> Box:
    return (x - radius, y - radius, x + radius, y + radius)


def _within(box: Box, area: Box) -> bool:
    return box[0] >= area[0] and box[1] >= area[1] and box[2] <= area[2] and box[3] <= area[3]


def _covers(box: Box, others: Iterable[Box]) -> bool:
    return any(
        box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
        for other in others
    )

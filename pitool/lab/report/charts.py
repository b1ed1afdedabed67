"""Scatter plots as SVG by hand: log axes, a Pareto front, labels that do not cover each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT = 860, 470
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 48, 52
CHARACTER, LINE = 6.2, 13
# Told apart by people who do not see colours as most do (Okabe and Ito).
COLOURS = {"llama.cpp": "#0072b2", "onnxruntime": "#d55e00", "none": "#7a7a7a"}


@dataclass(frozen=True, slots=True)
class Point:
    """A mark at ``x`` and ``y``, both above 0; ``group`` is one of ``COLOURS``."""

    label: str
    x: float
    y: float
    group: str
    hint: str


@dataclass(frozen=True, slots=True)
class Axis:
    """A logarithmic axis from ``low`` to ``high`` on the pixels from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        share = (log10(value) - log10(self.low)) / (log10(self.high) - log10(self.low))
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return 1, 2 and 5 times the powers of ten that lie on the axis; few: powers only."""
        powers = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
        steps = (1, 2, 5) if log10(self.high / self.low) < 2.5 else (1,)
        found = [step * 10.0**power for power in powers for step in steps]
        return [tick for tick in found if self.low <= tick * 1.0001 and tick <= self.high * 1.0001]


def axis(values: Sequence[float], start: float, end: float) -> Axis:
    """Return the axis for values above 0, with a margin around them."""
    low, high = min(values), max(values)
    return Axis(low / 1.35, high * 1.35, start, end)


def scatter(title: str, across: str, up: str, points: Sequence[Point], front: Sequence[str]) -> str:
    """Return the drawing; ``front``: labels of the Pareto front, in order along the first axis."""
    x = axis([p.x for p in points], LEFT, WIDTH - RIGHT)
    y = axis([p.y for p in points], HEIGHT - BOTTOM, TOP)
    by_label = {p.label: p for p in points}
    line = " ".join(f"{x.at(by_label[n].x):.1f},{y.at(by_label[n].y):.1f}" for n in front)
    parts = [
        _open(title),
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(LEFT, 20, title, 15, weight="600"),
        _text(LEFT, TOP - 10, up, 11),
        _text(WIDTH - RIGHT, HEIGHT - 12, across, 11, anchor="end"),
        *_grid(x, y),
        f'<polyline points="{line}" fill="none" stroke="#444444" stroke-dasharray="5 3"/>',
        *(_mark(p, x, y) for p in points),
        *_labels(points, front, x, y),
        *_legend({p.group for p in points}),
        "</svg>",
    ]
    return "\n".join(parts)


def _open(title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' aria-label="{escape(title)}" font-family="system-ui, sans-serif">'
    )


def _grid(x: Axis, y: Axis) -> list[str]:
    parts = []
    for tick in x.ticks():
        at = x.at(tick)
        parts.append(
            f'<path d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#e4e4e4"/>'
            + _text(at, HEIGHT - BOTTOM + 16, f"{tick:g}", 11, anchor="middle")
        )
    for tick in y.ticks():
        at = y.at(tick)
        parts.append(
            f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#e4e4e4"/>'
            + _text(LEFT - 6, at + 4, f"{tick:g}", 11, anchor="end")
        )
    return parts


def _mark(point: Point, x: Axis, y: Axis) -> str:
    colour = COLOURS[point.group]
    fill = "#ffffff" if point.group == "none" else colour
    return (
        f'<circle cx="{x.at(point.x):.1f}" cy="{y.at(point.y):.1f}" r="4.5" fill="{fill}"'
        f' stroke="{colour}" stroke-width="1.5"><title>{escape(point.hint)}</title></circle>'
    )


def _labels(points: Sequence[Point], front: Sequence[str], x: Axis, y: Axis) -> list[str]:
    """Return the labels that find room beside their mark, those of the front first."""
    taken = [(x.at(p.x) - 5, y.at(p.y) - 5, x.at(p.x) + 5, y.at(p.y) + 5) for p in points]
    parts = []
    for point in sorted(points, key=lambda p: p.label not in front):
        width = len(point.label) * CHARACTER
        px, py = x.at(point.x), y.at(point.y)
        places = ((px + 8, py + 4), (px - 8 - width, py + 4), (px - width / 2, py - 9),
                  (px - width / 2, py + 18))  # fmt: skip
        for left, base in places:
            box = (left, base - LINE + 3, left + width, base + 2)
            inside = left >= LEFT and left + width <= WIDTH and TOP < base < HEIGHT - BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                weight = "600" if point.label in front else "400"
                parts.append(_text(left, base, point.label, 11, weight=weight))
                break
    return parts


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _legend(groups: set[str]) -> list[str]:
    parts, right = [], float(WIDTH - RIGHT)
    names = {"none": "no kernel: dequantized"}
    for group in reversed([g for g in COLOURS if g in groups]):
        name = names.get(group, group)
        right -= len(name) * CHARACTER + 22
        fill = "#ffffff" if group == "none" else COLOURS[group]
        parts.append(
            f'<circle cx="{right:.0f}" cy="{TOP - 14}" r="4.5" fill="{fill}"'
            f' stroke="{COLOURS[group]}" stroke-width="1.5"/>'
            + _text(right + 9, TOP - 10, name, 11)
        )
    return parts


def _text(
    x: float, y: float, text: str, size: int, *, anchor: str = "start", weight: str = "400"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
        f' font-weight="{weight}" fill="#222222">{escape(text)}</text>'
    )

"""Draws size against speed as an SVG, written by hand; the Pareto front of each board is a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, log10

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 60, 150, 40, 50
HEADROOM = 1.08
# Marks that lie nearer, in pixels across and down together, share a label.
CLOSE = 14
STEPS = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
# Told apart by people who do not see colours as most do (Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


@dataclass(frozen=True, slots=True)
class Point:
    """A quantisation on a board: file in GB, decode in tokens/s, bits per weight."""

    label: str
    size: float
    speed: float
    bits: float
    fits: bool


def pareto(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats in bits and in speed, from few bits to many."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (-p.bits, -p.speed)):
        if not front or point.speed > front[-1].speed:
            front.append(point)
    return front[::-1]


def svg(title: str, series: dict[str, Sequence[Point]]) -> str:
    """Return the drawing: a colour a board, hollow marks for what does not fit."""
    points = [p for found in series.values() for p in found]
    across = _nice(max(p.size for p in points))
    up = _nice(max(p.speed for p in points))
    fastest = max(series, key=lambda name: max(p.speed for p in series[name]))

    def x(size: float) -> float:
        return LEFT + size / across * (WIDTH - LEFT - RIGHT)

    def y(speed: float) -> float:
        return HEIGHT - BOTTOM - speed / up * (HEIGHT - TOP - BOTTOM)

    parts = [_frame(title), *(_grid(across, up, i / 5) for i in range(6))]
    for i, (name, found) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        front = pareto([p for p in found if p.fits])
        line = " ".join(f"{x(p.size):.1f},{y(p.speed):.1f}" for p in front)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for p in found:
            fill = colour if p.fits else "white"
            parts.append(
                f'<circle cx="{x(p.size):.1f}" cy="{y(p.speed):.1f}" r="4" fill="{fill}"'
                f' stroke="{colour}"><title>{escape(f"{name} {p.label}: {p.size:.2f} GB,")}'
                f" {p.speed:.1f} tokens/s</title></circle>"
            )
        if name == fastest:
            parts += _labels([(x(p.size), y(p.speed), p.label) for p in found])
        parts.append(_text(WIDTH - RIGHT + 26, TOP + 12 + 18 * i, name, 12))
        parts.append(
            f'<circle cx="{WIDTH - RIGHT + 15}" cy="{TOP + 8 + 18 * i}" r="4" fill="{colour}"/>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _nice(value: float) -> float:
    """Return the end of an axis: room above ``value`` for its label, five even parts."""
    value *= HEADROOM
    power = 10.0 ** (ceil(log10(value)) - 1)
    return next(step * power for step in STEPS if step * power >= value)


def _frame(title: str) -> str:
    middle = HEIGHT - BOTTOM + 38
    below = "size of the file in GB; line: Pareto front of bits and speed; hollow: not said to fit"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        f' font-family="sans-serif">\n<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n'
        f"{_text(LEFT, 20, title, 14)}\n{_text(LEFT, middle, below, 11)}\n"
        f"{_text(8, TOP - 8, 'decode, tokens/s', 11)}"
    )


def _grid(across: float, up: float, share: float) -> str:
    x = LEFT + share * (WIDTH - LEFT - RIGHT)
    y = HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    stroke = 'stroke="#dddddd"'
    return (
        f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}M{LEFT} {y:.1f}H{WIDTH - RIGHT}" {stroke}/>\n'
        f"{_text(x - 8, HEIGHT - BOTTOM + 16, f'{share * across:g}', 11)}\n"
        f"{_text(LEFT - 36, y + 4, f'{share * up:g}', 11)}"
    )


def _text(x: float, y: float, text: str, size: int) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}">{escape(text)}</text>'


def _labels(places: Sequence[tuple[float, float, str]]) -> Iterator[str]:
    """Yield rising labels, which along a falling curve do not meet; close marks share one."""
    shared: list[tuple[float, float, str]] = []
    for x, y, text in sorted(places):
        if shared and abs(x - shared[-1][0]) + abs(y - shared[-1][1]) < CLOSE:
            x, y, before = shared.pop()
            text = f"{before}, {text}"
        shared.append((x, y, text))
    for x, y, text in shared:
        turn = f'<text transform="rotate(-45 {x + 6:.1f} {y - 6:.1f})" '
        yield _text(x + 6, y - 6, text, 10).replace("<text ", turn, 1)

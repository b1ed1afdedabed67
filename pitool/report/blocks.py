"""Bar charts for a terminal, of block characters that every font has."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10

from pitool.report.scales import LEAST, plain
from pitool.report.text import terminal_width

BLOCKS = "▁▂▃▄▅▆▇█"
WIDEST = 60
TICK = 7  # columns of a number on the axis
# What an axis ends with, times a power of ten: each and its half have two digits at most.
_TOPS = (1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10)


def chart(
    points: Sequence[tuple[float, float]],
    *,
    width: int | None = None,
    height: int = 8,
    ends: tuple[str, str] = ("", ""),
) -> list[str]:
    """Return lines of a chart of (x, y) from zero to a round number, and an axis below them.

    The y of each column is the mean of its points; empty columns repeat the one before. ``width``:
    columns of bars, by default what the terminal has room for. ``ends``: what the first and the
    last column are of.
    """
    if not points:
        return []
    if width is None:
        width = max(min(WIDEST, terminal_width() - TICK - 2), 1)
    means = columns(points, width, (points[0][0], points[-1][0]))
    top = _round_above(max(means))
    half = height // 2 - 1
    ticks = {height - 1: _tick(top), half: _tick(top * (half + 1) / height)}
    lines = []
    for row, bar in enumerate(bars(means, height, 0.0, top)):
        level = height - 1 - row
        side = "┤" if level in ticks else "│"
        lines.append(f"{ticks.get(level, ''):>{TICK}} {side}{bar}".rstrip())
    lines.append(f"{'0':>{TICK}} └{'─' * width}")
    first, last = ends
    if first or last:
        lines.append(f"{'':>{TICK}}  {first}{last:>{max(width - len(first), len(last) + 1)}}")
    return lines


def _tick(value: float) -> str:
    """Return a number that the axis has room for."""
    text = plain(value)
    return text if len(text) <= TICK else f"{value:.2g}"


def _round_above(most: float) -> float:
    """Return a number at or above ``most`` that is round, and so is its half."""
    if most < LEAST:
        return 1.0
    power = 10.0 ** floor(log10(most))
    return next(step * power for step in _TOPS if step * power >= most)


def horizontal(value: float, top: float, width: int) -> str:
    """Return a bar of at most ``width`` columns for a value from 0 to ``top``.

    It ends in a half column where that is nearer, of characters that a text console has too.
    """
    halves = round(value / top * width * 2)
    return "█" * (halves // 2) + "▌" * (halves % 2)


def columns(
    points: Sequence[tuple[float, float]], width: int, span: tuple[float, float]
) -> list[float]:
    """Return the mean y of each of ``width`` columns, which divide ``span`` of x.

    Empty columns repeat the one before, those before the first point are 0.
    """
    first, last = span
    found: list[list[float]] = [[] for _ in range(width)]
    for x, y in points:
        share = (x - first) / (last - first) if last > first else 0.0
        found[min(int(share * width), width - 1)].append(y)
    means: list[float] = []
    for column in found:
        means.append(sum(column) / len(column) if column else (means[-1] if means else 0.0))
    return means


def bars(values: Sequence[float], height: int, low: float, high: float) -> list[str]:
    """Return ``height`` lines of bars from ``low`` at the bottom to ``high``, a column a value."""
    eighths = [round((value - low) / (high - low) * height * 8) for value in values]
    return [
        "".join(f" {BLOCKS}"[min(max(value - level * 8, 0), 8)] for value in eighths)
        for level in range(height - 1, -1, -1)
    ]

"""Bar charts for a terminal, of block characters that every font has."""

from __future__ import annotations

from collections.abc import Sequence

from pitool.report.numbers import format_speed

BLOCKS = "▁▂▃▄▅▆▇█"


def chart(points: Sequence[tuple[float, float]], *, width: int = 60, height: int = 8) -> list[str]:
    """Return lines of a chart of (x, y) from zero up, the y of each column the mean of its points.

    Empty columns repeat the one before.
    """
    if not points:
        return []
    means = columns(points, width, (points[0][0], points[-1][0]))
    top = max(means) or 1.0
    lines = []
    for row, bar in enumerate(bars(means, height, 0.0, top)):
        level = height - 1 - row
        named = level in (height - 1, height // 2 - 1)
        label = format_speed(top * (level + 1) / height) if named else ""
        lines.append(f"{label:>8} {bar}".rstrip())
    return lines


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

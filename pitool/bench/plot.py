"""Small drawings for a terminal, in characters that every font has."""

from __future__ import annotations

from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"


def chart(points: Sequence[tuple[float, float]], *, width: int = 60, height: int = 8) -> list[str]:
    """Return lines of a chart of (x, y) from zero up, the y of each column the mean of its points.

    Empty columns repeat the one before.
    """
    if not points:
        return []
    first, last = points[0][0], points[-1][0]
    columns: list[list[float]] = [[] for _ in range(width)]
    for x, y in points:
        share = (x - first) / (last - first) if last > first else 0.0
        columns[min(int(share * width), width - 1)].append(y)
    means: list[float] = []
    for column in columns:
        means.append(sum(column) / len(column) if column else (means[-1] if means else 0.0))
    top = max(means) or 1.0
    eighths = [round(mean / top * height * 8) for mean in means]
    lines = []
    for level in range(height - 1, -1, -1):
        filled = [min(max(value - level * 8, 0), 8) for value in eighths]
        bar = "".join(f" {BLOCKS}"[amount] for amount in filled)
        label = (
            f"{top * (level + 1) / height:8.1f}" if level in (height - 1, height // 2 - 1) else ""
        )
        lines.append(f"{label:>8} {bar}".rstrip())
    return lines

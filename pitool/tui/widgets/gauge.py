"""A bar of characters that is readable without colour, too."""

from __future__ import annotations

from textual.content import Content


def gauge(fraction: float, width: int, style: str = "$primary") -> Content:
    """Return a bar ``width`` cells wide, thick up to ``fraction`` and thin after it."""
    halves = round(min(max(fraction, 0.0), 1.0) * width * 2)
    done = "━" * (halves // 2) + "╸" * (halves % 2)
    return Content.assemble((done, style), ("─" * (width - len(done)), "$foreground 30%"))

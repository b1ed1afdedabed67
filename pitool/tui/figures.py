"""Figures as text: sizes, rates, seconds. No colours, no widgets."""

from __future__ import annotations

from pitool.spec.manifest import Speed
from pitool.spec.memory import format_bytes

NONE = "–"


def size(count: int | None) -> str:
    """Return bytes as ``812 MB``, or a dash where they are unknown."""
    return NONE if count is None else format_bytes(count)


def rate(tokens_per_second: float) -> str:
    """Return ``45.6 t/s``, or a dash for none yet."""
    return f"{tokens_per_second:.1f} t/s" if tokens_per_second > 0 else f"{NONE} t/s"


def seconds(value: float) -> str:
    """Return ``0.31 s``, ``12.3 s`` or ``2:05``."""
    if value >= 100:
        return f"{int(value) // 60}:{int(value) % 60:02d}"
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def span(speeds: tuple[Speed, ...]) -> str:
    """Return the predicted decode speed over the boards: ``8.1`` or ``8.1–12.4``."""
    if not speeds:
        return NONE
    low, high = min(s.decode for s in speeds), max(s.decode for s in speeds)
    return f"{low:.1f}" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f}–{high:.1f}"

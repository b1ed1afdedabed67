"""Axes of charts: from values to places, with ticks at round numbers; no drawing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

# What a step of an axis may be, times a power of ten.
_STEPS = (0.1, 0.2, 0.25, 0.5, 1, 2)
# Room above the largest value, and on both sides of the values of a logarithmic axis.
_HEADROOM, _MARGIN = 1.06, 1.35
LEAST = 1e-12
"""Less than this is drawn as nothing: nobody measured it, and its powers of ten are not exact."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values from ``low`` to ``high`` to places (pixels) from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    place: Callable[[float], float] = float

    def at(self, value: float) -> float:
        """Return the place of a value."""
        low, high = self.place(self.low), self.place(self.high)
        share = (self.place(value) - low) / (high - low)
        return self.start + share * (self.end - self.start)


def linear(
    values: Sequence[float], start: float = 0.0, end: float = 1.0, *, most: int = 7
) -> Scale:
    """Return a scale from 0 to a round number above the values, of which one is above 0.

    ``most``: so many steps between ticks at most; 2 or more.
    """
    top = max(LEAST, *values) * _HEADROOM
    power = 10.0 ** floor(log10(top))
    step = next(
        step * power * ten
        for ten in (1, 10)
        for step in _STEPS
        if top / (step * power * ten) <= most
    )
    count = ceil(top / step)
    return Scale(0.0, count * step, start, end, tuple(i * step for i in range(count + 1)))


def logarithmic(values: Sequence[float], start: float = 0.0, end: float = 1.0) -> Scale:
    """Return a scale for values above 0 with a margin: 1, 2 and 5 times powers of ten, or these."""
    low, high = min(values) / _MARGIN, max(values) * _MARGIN
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    decades = log10(high / low)
    steps = (1, 1.5, 2, 3, 4, 5, 7) if decades < 0.8 else (1, 2, 5) if decades < 2.5 else (1,)
    ticks = (step * 10.0**power for power in powers for step in steps)
    return Scale(low, high, start, end, tuple(t for t in ticks if low <= t <= high), log10)


def plain(tick: float) -> str:
    """Return a tick's number without an exponent and without zeros at its end."""
    return f"{tick:.10f}".rstrip("0").rstrip(".")

"""The chart of ``pitool plan``: size or quality against speed, with the Pareto front of each board.

Where certificates are at hand the quality is on the axis across, else the size of the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pitool.report import svg
from pitool.report.numbers import format_bytes, format_fixed, format_rate

NOTE = "line: Pareto front of bits and speed; hollow: tight, it leaves too little memory free"
QUALITY_NOTE = (
    "line: Pareto front of quality and speed; left is better: 0 is the checkpoint; hollow: tight"
)
LEAST_CERTIFIED = 2
"""So many certificates make an axis."""


@dataclass(frozen=True, slots=True)
class PlannedSpeed:
    """A quantisation on a board: file in bytes, decode in tokens/s, bits per weight.

    ``kl``: its certificate's mean KL divergence in nats, None without one.
    """

    label: str
    bytes: int
    speed: float
    bits: float
    fits: bool
    kl: float | None = None

    @property
    def merit(self) -> float:
        """Its quality: more is better."""
        return self.bits if self.kl is None else -self.kl


def pareto(points: Sequence[PlannedSpeed]) -> list[PlannedSpeed]:
    """Return the points that no other beats in quality and in speed, from the worst quality on."""
    front: list[PlannedSpeed] = []
    for point in sorted(points, key=lambda p: (-p.merit, -p.speed)):
        if not front or point.speed > front[-1].speed:
            front.append(point)
    return front[::-1]


def chart(title: str, series: dict[str, Sequence[PlannedSpeed]]) -> svg.Scatter:
    """Return the chart: a colour a board, hollow marks for what is tight."""
    certified = {
        name: [p for p in found if p.kl is not None] for name, found in series.items() if found
    }
    quality = all(len(found) >= LEAST_CERTIFIED for found in certified.values())
    if quality:
        series = dict(certified)
    fastest = max(series, key=lambda name: max(p.speed for p in series[name]))
    marks: list[svg.Mark] = []
    fronts, legend = [], []
    for i, (name, found) in enumerate(series.items()):
        colour = svg.COLOURS[i % len(svg.COLOURS)]
        named = name == fastest
        drawn = {p.label: _mark(name, p, colour, named=named, quality=quality) for p in found}
        marks += drawn.values()
        fronts.append((colour, [drawn[p.label] for p in pareto([p for p in found if p.fits])]))
        legend.append((name, colour, False))
    across = "mean KL divergence from the checkpoint, in nats" if quality else "file size in GB"
    note = QUALITY_NOTE if quality else NOTE
    return svg.Scatter(title, across, "decode, tokens/s", marks, fronts, legend, note)


def _mark(board: str, point: PlannedSpeed, colour: str, *, named: bool, quality: bool) -> svg.Mark:
    hint = f"{board} {point.label}: {format_bytes(point.bytes)}, {format_rate(point.speed)}"
    across = point.bytes / 1e9
    if quality and point.kl is not None:
        hint, across = f"{hint}, KL {format_fixed(point.kl, 4)}", point.kl
    return svg.Mark(point.label, across, point.speed, colour, hint, not point.fits, named)

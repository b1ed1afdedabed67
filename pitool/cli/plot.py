"""The chart of ``pitool plan``: size or quality against speed, with the Pareto front of each board.

Where certificates are at hand the quality is on the axis across, else the size of the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pitool.planning.catalogue import READING
from pitool.report.canvas import SERIES, Colour
from pitool.report.numbers import format_bytes, format_fixed, format_rate
from pitool.report.scatter import Axis, Front, Mark, Scatter

TIGHT = "hollow: tight, it leaves too little memory free"
NOTE = f"line: no other has more bits per weight and is faster; {TIGHT}"
QUALITY_NOTE = f"line: no other is closer to the checkpoint and faster; {TIGHT}"
# Of the axis, with what a file is divided by.
UNITS = (("GB", 1e9), ("MB", 1e6))
QUALITY = Axis("mean KL divergence from the checkpoint in nats, 0 is the checkpoint", "less")
SPEED = Axis("decode in tokens/s", "more")
READ = (READING, f"people read {READING:g} tokens/s")
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


def chart(title: str, series: dict[str, Sequence[PlannedSpeed]]) -> Scatter:
    """Return the chart: a colour a board, hollow marks for what is tight."""
    largest = max(point.bytes for found in series.values() for point in found)
    unit, size = next((each for each in UNITS if largest >= each[1] / 10), UNITS[-1])
    certified = {
        name: [p for p in found if p.kl is not None] for name, found in series.items() if found
    }
    quality = all(len(found) >= LEAST_CERTIFIED for found in certified.values())
    if quality:
        series = dict(certified)
    fastest = max(series, key=lambda name: max(p.speed for p in series[name]))
    marks: list[Mark] = []
    fronts, legend = [], []
    for i, (name, found) in enumerate(series.items()):
        colour = SERIES[i % len(SERIES)]
        named = name == fastest
        drawn = {p.label: _mark(name, p, colour, size, named=named, quality=quality) for p in found}
        marks += drawn.values()
        best = pareto([p for p in found if p.fits])
        fronts.append(Front(colour, [drawn[p.label] for p in best]))
        legend.append((name, colour, False))
    sized = Axis(f"size of the file in {unit}", "less")
    across, note = (QUALITY, QUALITY_NOTE) if quality else (sized, NOTE)
    return Scatter(title, across, SPEED, marks, fronts, legend, READ, note)


def _mark(
    board: str, point: PlannedSpeed, colour: Colour, size: float, *, named: bool, quality: bool
) -> Mark:
    hint = f"{board} {point.label}: {format_bytes(point.bytes)}, {format_rate(point.speed)}"
    across = point.bytes / size
    if quality and point.kl is not None:
        hint, across = f"{hint}, KL {format_fixed(point.kl, 4)}", point.kl
    return Mark(point.label, across, point.speed, colour, hint, not point.fits, named)

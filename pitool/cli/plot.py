"""The chart of ``pitool plan``: size against speed, the Pareto front of each board as a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pitool.report import svg
from pitool.report.numbers import format_bytes, format_rate

NOTE = "line: Pareto front of bits and speed; hollow: does not fit"


@dataclass(frozen=True, slots=True)
class PlannedSpeed:
    """A quantisation on a board: file in bytes, decode in tokens/s, bits per weight."""

    label: str
    bytes: int
    speed: float
    bits: float
    fits: bool


def pareto(points: Sequence[PlannedSpeed]) -> list[PlannedSpeed]:
    """Return the points that no other beats in bits and in speed, from few bits to many."""
    front: list[PlannedSpeed] = []
    for point in sorted(points, key=lambda p: (-p.bits, -p.speed)):
        if not front or point.speed > front[-1].speed:
            front.append(point)
    return front[::-1]


def chart(title: str, series: dict[str, Sequence[PlannedSpeed]]) -> svg.Scatter:
    """Return the chart: a colour a board, hollow marks for what does not fit."""
    fastest = max(series, key=lambda name: max(p.speed for p in series[name]))
    marks: list[svg.Mark] = []
    fronts, legend = [], []
    for i, (name, found) in enumerate(series.items()):
        colour = svg.COLOURS[i % len(svg.COLOURS)]
        drawn = {p.label: _mark(name, p, colour, named=name == fastest) for p in found}
        marks += drawn.values()
        fronts.append((colour, [drawn[p.label] for p in pareto([p for p in found if p.fits])]))
        legend.append((name, colour, False))
    across, up = "file size in GB", "decode, tokens/s"
    return svg.Scatter(title, across, up, marks, fronts, legend, NOTE)


def _mark(board: str, point: PlannedSpeed, colour: str, *, named: bool) -> svg.Mark:
    hint = f"{board} {point.label}: {format_bytes(point.bytes)}, {format_rate(point.speed)}"
    return svg.Mark(
        point.label, point.bytes / 1e9, point.speed, colour, hint, not point.fits, named
    )

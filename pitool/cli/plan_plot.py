"""Writes the chart of ``pitool plan``: size against speed at the largest place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pitool.catalog.files import write_atomically
from pitool.cli import plot
from pitool.cli.plan_request import Report
from pitool.errors import PitoolError, UsageError
from pitool.planning.plan import Verdict


def write(report: Report, path: Path) -> None:
    """Write the chart; UsageError for another format, PitoolError where it cannot be written."""
    if path.suffix.lower() != ".svg":
        raise UsageError(f"--plot draws SVG, not {path.name}", "name a file that ends in .svg")
    place = report.places[-1]
    if not place.boards:
        raise UsageError(f"no board is known for {place.name}", "name one with --board")
    drawing = plot.chart(f"{report.subject.name} at {place.name}", series(report)).to_svg()
    try:
        write_atomically(path, drawing.encode())
    except OSError as error:
        raise PitoolError(
            f"{path} cannot be written ({error.strerror})", "name another file"
        ) from None


def series(report: Report) -> dict[str, Sequence[plot.PlannedSpeed]]:
    """Return the points of each group of boards that are equally fast."""
    place = report.places[-1]
    rows = [row for row in report.rows if row.place == place]
    groups: dict[tuple[float, ...], list[str]] = {}
    for i, board in enumerate(place.boards):
        rates = tuple(row.artifact.estimates[i].decode for row in rows)
        groups.setdefault(rates, []).append(board)
    return {
        ", ".join(boards): [
            plot.PlannedSpeed(
                row.artifact.quantisation.name,
                row.artifact.bytes,
                rate,
                row.artifact.bits_per_weight,
                row.verdict is Verdict.FITS,
            )
            for row, rate in zip(rows, rates, strict=True)
        ]
        for rates, boards in groups.items()
    }

"""What ``pitool compare`` shows: progress over the whole, and the table for a terminal."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from pitool.cli.show import talk
from pitool.lab.report import text
from pitool.lab.report.columns import columns, shown
from pitool.lab.verdicts import recommend, size_front

if TYPE_CHECKING:
    from rich.progress import TaskID

    from pitool.convert.techniques.base import Technique
    from pitool.lab.row import Comparison, Row

# Wider than the table with all columns, for pipes and files.
WIDEST = 400
LEGEND = (
    "bold: on the Pareto front of size and KL divergence; runs on none: evaluated with dequantized"
    " weights, so without speeds"
)


class Watch:
    """Two bars on a terminal, the whole and the stage; elsewhere a line a technique."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._bars: Bars | None = None
        self._whole: TaskID | None = None
        self._stage: TaskID | None = None
        self._place, self._start = "", 0.0

    def __enter__(self) -> Watch:
        if self._console.is_terminal:
            self._bars = Bars(
                TextColumn("{task.description:<40.40}"),
                BarColumn(16),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
            self._bars.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._bars:
            self._bars.stop()

    def begin(self, done: int, total: int, technique: Technique) -> None:
        """Begin a technique; ``done`` of ``total`` are."""
        self._place, self._start = f"{done + 1}/{total} {technique.name}", time.monotonic()
        if self._bars:
            if self._whole is None:
                self._whole = self._bars.add_task("techniques", total=total)
            self._bars.update(self._whole, completed=done)

    def end(self, row: Row, *, kept: bool) -> None:
        """Say how a technique ended."""
        took = "done before" if kept else f"{time.monotonic() - self._start:.1f} s"
        self._say(f"{self._place}: {f'not made: {row.error}' if row.error else took}")

    def stage(self, title: str, total: int, *, bytes_: bool = False) -> None:  # noqa: ARG002
        """Begin a stage."""
        if not self._bars:
            return
        if self._stage is not None:
            self._bars.remove_task(self._stage)
        self._stage = self._bars.add_task(f"{self._place} {title}".strip(), total=total)

    def advance(self, count: int) -> None:
        """Report units done."""
        if self._bars and self._stage is not None:
            self._bars.advance(self._stage, count)

    def close(self) -> None:
        """End the last stage."""

    def _say(self, line: str) -> None:
        if self._bars:
            self._bars.console.print(line, soft_wrap=True, markup=False)
        else:
            talk(line)


def table(comparison: Comparison) -> None:
    """Print on what was measured, the table, what was not made, and the recommendations.

    All columns where they fit the terminal or there is none; else those that matter most.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDEST
    shape = _shape(comparison, narrow=False)
    if (
        Measurement.get(console, console.options.update(width=WIDEST), shape).maximum
        > console.width
    ):
        shape = _shape(comparison, narrow=True)
    console.print(text.about(comparison), markup=False)
    console.print()
    console.print(shape)
    console.print(LEGEND)
    for row in comparison.rows:
        if row.error:
            console.print(f"not made: {row.technique}: {row.error}", markup=False)
    console.print()
    for each in recommend(comparison):
        console.print(f"{each.use}: {each.technique or 'none'} ({each.reason})", markup=False)


def _shape(comparison: Comparison, *, narrow: bool) -> Table:
    best = {row.technique for row in size_front(comparison)}
    shape = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    wanted = columns(comparison, narrow=narrow)
    for i, column in enumerate(wanted):
        sides = i in (0, len(wanted) - 1)
        shape.add_column(column.heading, justify="left" if sides else "right", no_wrap=True)
    for row in comparison.done:
        cells = [shown(column, comparison, row) for column in wanted]
        shape.add_row(*cells, style="bold" if row.technique in best else None)
    return shape

"""What the commands show: plans, progress and tables, on stderr unless it is the result.

Without a terminal there are no colours and no bars, only plain lines.
"""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import click
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table

from pitool.catalog.boards import find_board
from pitool.planning.speed_onnx import ASSUMED
from pitool.report.numbers import format_bytes

if TYPE_CHECKING:
    from pitool.catalog.bundles import Bundle
    from pitool.catalog.manifest import Speed
    from pitool.checkpoint.source import Source
    from pitool.convert.plan import ConvertPlan

FLOAT_BITS = 32


def talk(text: str) -> None:
    """Say something on stderr."""
    click.echo(text, err=True)


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i == 0 else "right", no_wrap=True)
    return table


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = 100
    return console


def convert_plan(source: Source, plan: ConvertPlan, target: Path) -> None:
    """Show what will be made before it is made."""
    console = _console(stderr=True)
    weights = f"{plan.model.parameters / 1e6:,.1f} M parameters"
    console.print(f"{source.id}: {plan.model.architecture}, {weights}", soft_wrap=True)
    if plan.reason:
        console.print(plan.reason, soft_wrap=True)
    names = [artifact.quantisation.name for artifact in plan.artifacts]
    table = _table("memory", *names)
    parts = [{line.name: line.bytes for line in a.memory.lines} for a in plan.artifacts]
    for name in dict.fromkeys(name for part in parts for name in part):
        table.add_row(name, *(format_bytes(part[name]) if name in part else "-" for part in parts))
    totals = [artifact.memory.total for artifact in plan.artifacts]
    table.add_row("sum", *map(format_bytes, totals))
    free = f"free of {plan.place}'s {format_bytes(plan.budget)}"
    table.add_row(free, *(format_bytes(plan.budget - total) for total in totals))
    sizes = [plan.file_bytes(artifact) for artifact in plan.artifacts]
    table.add_row("file on disk", *(format_bytes(size) if size else "-" for size in sizes))
    console.print(table)
    console.print(f"bundle: {target}", soft_wrap=True)


def bundle(made: Bundle) -> None:
    """Show the artifacts of a bundle that was just made."""
    console = _console(stderr=False)
    table = _table("artifact", "size", "bits/weight", "of F32", "memory", "KL", "top-1", "tokens/s")
    for artifact in made.manifest.artifacts:
        certificate = artifact.certificate
        table.add_row(
            f"{artifact.format} {artifact.quantisation}",
            format_bytes(artifact.bytes),
            f"{artifact.bits_per_weight:.2f}",
            f"{artifact.bits_per_weight / FLOAT_BITS:.0%}",
            format_bytes(sum(line.bytes for line in artifact.memory)),
            f"{certificate.mean_kl:.4f}" if certificate else "-",
            f"{certificate.top1:.1%}" if certificate else "-",
            _decode_range(artifact.speed),
        )
    console.print(table)
    boards = ", ".join(find_board(s.board).name for s in made.manifest.artifacts[0].speed)
    if boards:
        console.print(f"tokens/s: predicted decode on {boards}", soft_wrap=True)
        if any(
            artifact.format == "onnx" and artifact.speed for artifact in made.manifest.artifacts
        ):
            console.print(ASSUMED, soft_wrap=True)
    console.print(f"bundle: {made.path}", soft_wrap=True)
    console.print(f'try it: pitool run {made.path} "Hello"', soft_wrap=True)


def _decode_range(speeds: tuple[Speed, ...]) -> str:
    """Return the slowest and fastest decode, such as ``4.1-9.8``."""
    rates = sorted(s.decode for s in speeds)
    if not rates:
        return "-"
    low, high = (f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}" for rate in (rates[0], rates[-1]))
    return low if low == high else f"{low}-{high}"


class Progress:
    """A bar a stage on a terminal; a line a stage elsewhere."""

    def __init__(self) -> None:
        self._console = _console(stderr=True)
        self._bars: Bars | None = None
        self._task: TaskID | None = None
        self._title, self._start = "", 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close(failed=kind is not None)

    def stage(self, title: str, total: int, *, bytes_: bool = False) -> None:
        """Begin a stage of ``total`` bytes or steps."""
        self.close()
        self._title, self._start = title, time.monotonic()
        if not self._console.is_terminal:
            talk(f"{title} ...")
            return
        amount: list[ProgressColumn] = (
            [DownloadColumn(), TransferSpeedColumn()] if bytes_ else [MofNCompleteColumn()]
        )
        columns = [TextColumn("{task.description:<24}"), BarColumn(24), *amount]
        self._bars = Bars(*columns, TimeRemainingColumn(), console=self._console, transient=True)
        self._bars.start()
        self._task = self._bars.add_task(title, total=total)

    def advance(self, count: int) -> None:
        """Report units done."""
        if self._bars and self._task is not None:
            self._bars.advance(self._task, count)

    def close(self, *, failed: bool = False) -> None:
        """End the stage; a line with its time stays."""
        if self._bars:
            self._bars.stop()
            self._bars = None
        if self._title and not failed:
            talk(f"{self._title}: {time.monotonic() - self._start:.1f} s")
        self._title = ""

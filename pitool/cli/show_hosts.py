"""How far several hosts are: a line of its own for each on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

STEP = 0.25  # of a copy, after which a plain line says how far it is


class Lines:
    """One line a host; safe to be told things by several threads."""

    def __init__(self, names: Sequence[str]) -> None:
        console = Console(stderr=True, highlight=False)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(16), DownloadColumn())
        self._bars = Progress(*columns, console=console) if console.is_terminal else None
        self._names = names
        self._tasks = {name: self._bars.add_task(name, total=None) for name in names if self._bars}
        self._said = dict.fromkeys(names, 0.0)

    def __enter__(self) -> Lines:
        if self._bars:
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

    def say(self, name: str, what: str) -> None:
        """Show what happens on a host."""
        if self._bars:
            self._bars.update(self._tasks[name], description=f"{name}: {what}")
        else:
            click.echo(f"{name}: {what}", err=True)

    def arrived(self, name: str, count: int, total: int) -> None:
        """Show how many of ``total`` bytes a host has."""
        if self._bars:
            self._bars.update(self._tasks[name], completed=count, total=total)
        elif (share := count / total) - self._said[name] >= STEP:
            self._said[name] = share
            click.echo(f"{name}: {share:.0%} has arrived", err=True)

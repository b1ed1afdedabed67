"""How far a job is, on stderr: bars on a terminal, plain lines elsewhere, or nothing.

A job is told a ``Progress`` and never asks which. stdout is never written to but through
``StatusLine.out``, which clears the line first.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from pitool.report.numbers import format_bytes, format_seconds, format_share
from pitool.report.pace import Pace
from pitool.report.streams import own_stream, write_own
from pitool.report.text import is_smart, printable, shorten, terminal_width

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

ERASE = "\r\x1b[K"
# Of a copy, after which a plain line says how far it is.
STEP = 0.25
# Columns of a bar, and of all that stands beside a title.
BAR, BESIDE = 16, 42


class Progress(Protocol):
    """Stages one after the other, each with a total in bytes or steps."""

    def stage(self, title: str, total: int, *, bytes_: bool = False) -> None:
        """Begin a stage of ``total`` units; the one before is done."""

    def advance(self, count: int) -> None:
        """Report units done in this stage."""

    def close(self) -> None:
        """End the last stage."""


class ItemProgress(Progress, Protocol):
    """The same for a job of several items, each of which has stages."""

    def begin(self, item: str, done: int, total: int) -> None:
        """Begin an item; ``done`` of ``total`` are."""

    def end(self, outcome: str = "") -> None:
        """End it; a line says how, by default how long it took."""


class Silent:
    """Shows nothing."""

    def stage(self, title: str, total: int, *, bytes_: bool = False) -> None:
        """Begin a stage."""

    def advance(self, count: int) -> None:
        """Report units done."""

    def close(self) -> None:
        """End the last stage."""

    def begin(self, item: str, done: int, total: int) -> None:
        """Begin an item."""

    def end(self, outcome: str = "") -> None:
        """End it."""


def counting(progress: Progress) -> Callable[[int, int], None]:
    """Return what hears of how many units are done, and of all, and advances by the difference."""
    before = 0

    def on_unit(done: int, _all: int) -> None:
        nonlocal before
        progress.advance(done - before)
        before = done

    return on_unit


def stage_of(progress: Progress, title: str, *, bytes_: bool = False) -> Callable[[int, int], None]:
    """Return the same, but it begins a stage when it first hears how many units there are."""
    on_unit = counting(progress)
    begun = False

    def begin(done: int, total: int) -> None:
        nonlocal begun
        if not begun:
            progress.stage(title, total, bytes_=bytes_)
            begun = True
        on_unit(done, total)

    return begin


def talk(text: str) -> None:
    """Say something on stderr, on a line of its own."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def moves() -> bool:
    """Tell whether stderr is a terminal where what was written can be overwritten."""
    return sys.stderr.isatty() and is_smart()


class Stages:
    """A bar a stage on a terminal, else a line when it begins; a line with its time stays.

    Of a job with items a line an item stays. A context manager: what is left is closed at its end.
    """

    def __init__(self) -> None:
        self._bars = _Bars() if moves() else None
        self._title, self._start = "", 0.0
        self._item, self._item_start = "", 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._end_stage(failed=kind is not None)
        if self._bars:
            self._bars.stop()

    def begin(self, item: str, done: int, total: int) -> None:
        """Begin an item; ``done`` of ``total`` are."""
        self._end_stage()
        self._item, self._item_start = f"{done + 1}/{total} {item}", time.monotonic()

    def end(self, outcome: str = "") -> None:
        """End it and say how."""
        self._end_stage()
        took = format_seconds(time.monotonic() - self._item_start)
        talk(f"{self._item}: {outcome or took}")
        self._item = ""

    def stage(self, title: str, total: int, *, bytes_: bool = False) -> None:
        """Begin a stage of ``total`` bytes or steps."""
        self._end_stage()
        self._title, self._start = title, time.monotonic()
        if self._bars:
            self._bars.start(f"{self._item} {title}".strip(), total, bytes_=bytes_)
        elif not self._item:
            talk(f"{title} ...")

    def advance(self, count: int) -> None:
        """Report units done."""
        if self._bars:
            self._bars.advance(count)

    def close(self) -> None:
        """End the last stage."""
        self._end_stage()

    def _end_stage(self, *, failed: bool = False) -> None:
        if self._bars:
            self._bars.stop()
        if self._title and not (failed or self._item):
            talk(f"{self._title}: {format_seconds(time.monotonic() - self._start)}")
        self._title = ""


class _Bars:
    """One bar of rich, which is loaded when the first begins."""

    def __init__(self) -> None:
        self._rich: RichProgress | None = None
        self._task: TaskID | None = None
        self._pace = Pace(0)
        self._bytes = False

    def start(self, title: str, total: int, *, bytes_: bool) -> None:
        """Show a bar."""
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._pace, self._bytes = Pace(total), bytes_
        self._rich = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(BAR),
            TextColumn("{task.fields[amount]}", markup=False),
            TimeElapsedColumn() if total <= 1 else TextColumn("{task.fields[left]}", markup=False),
            console=_console(),
            transient=True,
        )
        room = max(terminal_width(sys.stderr) - BESIDE, BAR)
        title = shorten(printable(title), room)
        self._task = self._rich.add_task(title, total=total, amount=self._amount(), left="")
        self._rich.start()

    def advance(self, count: int) -> None:
        """Move it on."""
        self._pace.advance(count)
        if self._rich and self._task is not None:
            done, left = self._pace.done, self._pace.words
            self._rich.update(self._task, completed=done, amount=self._amount(), left=left)

    def stop(self) -> None:
        """Take it away."""
        if self._rich:
            self._rich.stop()
        self._rich = self._task = None

    def _amount(self) -> str:
        pace = self._pace
        if pace.total <= 1:
            return ""
        if not self._bytes:
            return f"{int(pace.done)}/{int(pace.total)}"
        return f"{format_share(pace.share)} of {format_bytes(pace.total)}"


class Hosts:
    """A line a host that a terminal overwrites, plain lines elsewhere; threads may use it."""

    def __init__(self, names: Sequence[str]) -> None:
        self._rich = _host_bars() if moves() else None
        self._tasks = {
            name: self._rich.add_task(name, total=None, amount="") for name in names if self._rich
        }
        self._said = dict.fromkeys(names, 0.0)

    def __enter__(self) -> Self:
        if self._rich:
            self._rich.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._rich:
            self._rich.stop()

    def say(self, name: str, what: str) -> None:
        """Show what happens on a host."""
        if self._rich:
            self._rich.update(self._tasks[name], description=printable(f"{name}: {what}"))
        else:
            talk(f"{name}: {what}")

    def arrived(self, name: str, count: int, total: int) -> None:
        """Show how many of ``total`` bytes a host has."""
        share = min(max(count, 0) / max(total, 1), 1.0)
        if self._rich:
            amount = f"{format_share(share)} of {format_bytes(total)}"
            done = share * total
            self._rich.update(self._tasks[name], completed=done, total=total, amount=amount)
        elif share - self._said[name] >= STEP:
            self._said[name] = share
            talk(f"{name}: {format_share(share)} copied")


def _host_bars() -> RichProgress:
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(BAR),
        TextColumn("{task.fields[amount]}", markup=False),
        console=_console(),
    )


def _console() -> Console:
    from rich.console import Console

    return Console(file=own_stream(sys.stderr), highlight=False)


class StatusLine:
    """One line that a terminal overwrites, and that makes way for lines that stay."""

    def __init__(self) -> None:
        self._moves = moves()
        self._shown = False

    def show(self, text: str) -> None:
        """Say what is done at the moment."""
        if not self._moves:
            talk(text)
            return
        # A longer line would wrap, and only its last row be erased.
        line = shorten(printable(text), terminal_width(sys.stderr) - 1)
        write_own(f"{ERASE}{line}", sys.stderr)
        self._shown = True

    def say(self, text: str) -> None:
        """Write a line on stderr that stays."""
        self.clear()
        talk(text)

    def out(self, text: str) -> None:
        """Write a line on stdout."""
        self.clear()
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def clear(self) -> None:
        """Erase what is shown."""
        if self._shown:
            write_own(ERASE, sys.stderr)
            self._shown = False

"""What a conversion tells while it works; who shows it decides how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """Stages one after the other, each with a total in bytes or steps."""

    def stage(self, title: str, total: int, *, bytes_: bool = False) -> None:
        """Begin a stage of ``total`` units; the one before is done."""

    def advance(self, count: int) -> None:
        """Report units done in this stage."""

    def close(self) -> None:
        """End the last stage."""


class Silent:
    """Shows nothing."""

    def stage(self, title: str, total: int, *, bytes_: bool = False) -> None:
        """Begin a stage."""

    def advance(self, count: int) -> None:
        """Report units done."""

    def close(self) -> None:
        """End the last stage."""


def counting(progress: Progress) -> Callable[[int, int], None]:
    """Return what hears of how many units are done, and of all, and advances by the difference."""
    before = 0

    def on_unit(done: int, _all: int) -> None:
        nonlocal before
        progress.advance(done - before)
        before = done

    return on_unit

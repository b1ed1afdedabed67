"""The events of a benchmark: the interface between what measures and what shows it.

``session`` yields them; the command prints them and a screen keeps what it needs of them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from pitool.bench.rows import BenchRow
from pitool.bench.run import Result
from pitool.catalog.bundles import Runnable
from pitool.errors import PitoolError


@dataclass(frozen=True, slots=True)
class Remark:
    """Something to be said once, of an artifact or of all."""

    text: str
    runnable: Runnable | None = None


@dataclass(frozen=True, slots=True)
class Doing:
    """What is done at the moment, where it is neither a load nor a test."""

    text: str


@dataclass(frozen=True, slots=True)
class Loading:
    """An artifact is being loaded, and this fraction of it is there."""

    runnable: Runnable
    fraction: float = 0.0


@dataclass(frozen=True, slots=True)
class EngineReady:
    """Tests begin. ``kill`` ends a timed call at once, from any thread; set ``cancel`` before."""

    runnable: Runnable
    kill: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Repetition:
    """A test began, or one more repetition of it is done: test ``number`` of ``planned``."""

    runnable: Runnable
    result: Result
    number: int
    planned: int


@dataclass(frozen=True, slots=True)
class Measured:
    """A test is over and in the history under ``run``; ``whole``: with all its repetitions."""

    row: BenchRow
    run: str
    whole: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """What is to be said of one load: load time and memory, and how likely its rates are."""

    memory: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """What a mode put into its document, in lines for people, and what to beware of."""

    lines: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """One artifact could not be measured, or not to the end; the others follow."""

    runnable: Runnable
    error: PitoolError


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event. ``stopped`` by the user after ``done`` of ``planned`` tests.

    ``conditions``: what was seen of the board; ``documents``: those of a mode.
    """

    stopped: bool
    done: int = 0
    planned: int = 0
    failures: tuple[PitoolError, ...] = ()
    conditions: tuple[str, ...] = ()
    documents: tuple[dict[str, Any], ...] = ()


Event = (
    Remark
    | Doing
    | Loading
    | EngineReady
    | Repetition
    | Measured
    | Judged
    | Figures
    | Failed
    | Finished
)

Told = TypeVar("Told")


def handle(events: Generator[Told], show: Callable[[Told], object]) -> None:
    """Show every event; a Ctrl-C that comes while one is shown is handed to what measures."""
    event = next(events, None)
    while event is not None:
        try:
            show(event)
        except KeyboardInterrupt as interruption:
            event = events.throw(interruption)
        else:
            event = next(events, None)

"""What a check is given and what it returns."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pitool.catalog.boards import Board
from pitool.device import files
from pitool.device.detect import Machine
from pitool.device.sensors import Reading, Run

Severity = Literal["ok", "note", "warning", "fault"]
SEVERITIES: tuple[Severity, ...] = ("ok", "note", "warning", "fault")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at and found; of what is not ``ok``, what it costs and the exact fix."""

    check: str
    severity: Severity
    found: str
    cost: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class System:
    """The machine that is examined, and how it is asked.

    ``run`` returns a command's output or raises OSError; ``read_speed`` measures the bytes/s at
    which models are read, None where it cannot.
    """

    root: Path
    machine: Machine
    board: Board | None
    reading: Reading
    run: Run
    today: datetime.date
    read_speed: Callable[[], float | None]

    def text(self, path: str) -> str | None:
        """Return the text of a small file below the root."""
        return files.text(self.root / path)

    def number(self, path: str) -> int | None:
        """Return the number in a small file below the root."""
        return files.integer(self.root / path)


Check = Callable[[System], Finding | None]
"""Returns None where the machine cannot tell."""

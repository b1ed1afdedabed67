"""Looks for what makes a model slow, or stops it, on this machine, and says how to mend it.

A check is one function in the table of its kind of machine: it takes the ``Patient`` and returns a
finding, or None where the machine cannot tell. Nothing is changed, nothing needs root.
"""

from __future__ import annotations

import datetime
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pitool.catalog.boards import Board, boards
from pitool.device import files, sensors, storage
from pitool.device.detect import Machine, detect
from pitool.device.sensors import Reading, Run

Severity = Literal["ok", "note", "warning", "fault"]
# An import of llama.cpp from a slow card takes its time.
PATIENCE_SECONDS = 60
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
class Patient:
    """The machine and how it is asked.

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


Check = Callable[[Patient], Finding | None]


def examine(
    root: Path = files.HOST,
    run: Run | None = None,
    today: datetime.date | None = None,
    host: bool | None = None,
    read_speed: Callable[[], float | None] = storage.models_read_speed,
) -> list[Finding]:
    """Return every finding, the worst first.

    ``host``: whether this machine converts models; None takes every ARM machine for a board.
    """
    from pitool.device import doctor_board, doctor_host

    machine = detect(root)
    patient = Patient(
        root,
        machine,
        boards().get(machine.board_id or ""),
        sensors.read(root, run),
        run or _run,
        today or datetime.datetime.now(datetime.UTC).date(),
        read_speed,
    )
    converts = machine.arch not in ("aarch64", "armv7l", "armv6l") if host is None else host
    checks = doctor_host.CHECKS if converts else doctor_board.CHECKS
    found = [finding for check in checks if (finding := check(patient))]
    return sorted(found, key=lambda finding: -SEVERITIES.index(finding.severity))


def _run(command: list[str]) -> str:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
        stdin=subprocess.DEVNULL,
    ).stdout


def worst(findings: list[Finding]) -> Severity:
    """Return the highest severity; ``ok`` of nothing."""
    return max((f.severity for f in findings), key=SEVERITIES.index, default="ok")

"""Watts: from a board's own power chip, or from a command that asks another meter.

Which boards have a chip, and what prints its readings, stands in the boards' table. The chip
measures what flows into the rails of the SoC, memory and onboard parts. USB devices, the fan and
the losses of the power supply are not in it.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pitool.catalog.boards import boards
from pitool.device import files
from pitool.device.detect import detect
from pitool.device.sensors import Run, run_command
from pitool.errors import BadInput, MissingPart

SECONDS = 5  # that a meter may take to answer
SOC_RAILS = "SoC rails (PMIC)"
_LINE = re.compile(r"(\w+)_([AV])\s+(?:current|volt)\(\d+\)=([0-9.]+)[AV]")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Meter:
    """Something that tells watts: ``source`` says what is measured, ``read`` gives None if lost."""

    source: str
    read: Callable[[], float | None]


def rails(text: str) -> float | None:
    """Return the sum over all rails of volts times amperes; None where none has both."""
    values: dict[str, dict[str, float]] = {}
    for rail, unit, number in _LINE.findall(text):
        values.setdefault(rail, {})[unit] = float(number)
    watts = [both["A"] * both["V"] for both in values.values() if len(both) == 2]
    return sum(watts) if watts else None


def onboard(root: Path = files.HOST, run: Run = run_command) -> Meter:
    """Return the meter of this machine's power chip; MissingPart where it has none.

    A machine that the table does not know is asked as those are that have one.
    """
    board = boards().get(detect(root).board_id or "")
    for words in [board.sensors.rails] if board else _known_commands():

        def read(command: tuple[str, ...] = words) -> float | None:
            try:
                return rails(run([*command]))
            except (OSError, subprocess.SubprocessError):
                return None

        if words and read() is not None:
            return Meter(SOC_RAILS, read)
    known = ", ".join(each.name for each in boards().values() if each.sensors.rails)
    raise MissingPart(
        f"this machine has no readable power sensor (boards with one: {known})",
        "use --power-meter with a command that prints watts",
    )


def _known_commands() -> list[tuple[str, ...]]:
    return list(dict.fromkeys(b.sensors.rails for b in boards().values() if b.sensors.rails))


def command(line: str) -> Meter:
    """Return a meter that runs a command and takes the first number it prints as watts.

    BadInput when the command does not do that now.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise BadInput(f"--power-meter {line!r} is not a command ({error})", "quote it") from None

    def read() -> float | None:
        try:
            found = _NUMBER.search(run_command(words, SECONDS))
        except (OSError, subprocess.SubprocessError):
            return None
        return float(found[0]) if found else None

    if not words or read() is None:
        raise BadInput(
            f"--power-meter {line!r} does not print a number", "use a command that prints watts"
        )
    return Meter(line, read)

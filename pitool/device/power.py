"""Watts: from the power chip of a Raspberry Pi 5, or from a command that asks another meter.

The chip (``vcgencmd pmic_read_adc``) measures what flows into the rails of the SoC, memory and
onboard parts. USB devices, the fan and the losses of the power supply are not in it.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from pitool.device.sensors import Run
from pitool.errors import BadInput

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


def pmic(run: Run | None = None) -> Meter | None:
    """Return the meter of a Raspberry Pi 5; None on a machine that has none."""
    ask = run or _run

    def read() -> float | None:
        try:
            return rails(ask(["vcgencmd", "pmic_read_adc"]))
        except (OSError, subprocess.SubprocessError):
            return None

    return Meter(SOC_RAILS, read) if read() is not None else None


def command(line: str) -> Meter:
    """Return a meter that runs a command and takes the first number it prints as watts.

    BadInput when the command does not do that now.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise BadInput(f"--power-meter {line!r} is no command ({error})", "quote it") from None

    def read() -> float | None:
        try:
            found = _NUMBER.search(_run(words))
        except (OSError, subprocess.SubprocessError):
            return None
        return float(found[0]) if found else None

    if not words or read() is None:
        raise BadInput(
            f"--power-meter {line!r} prints no number", "give a command that prints watts"
        )
    return Meter(line, read)


def _run(words: list[str]) -> str:
    return subprocess.run(
        words, capture_output=True, text=True, timeout=5, check=True, stdin=subprocess.DEVNULL
    ).stdout

"""Waits until the board is cool enough to be measured."""

from __future__ import annotations

import time
from collections.abc import Callable

from pitool.device import sensors
from pitool.device.sensors import Reading
from pitool.errors import MissingPart, PitoolError

INTERVAL = 5.0
LONGEST = 900.0


def check(read: Callable[[], Reading] = sensors.read) -> None:
    """Raise MissingPart where there is no sensor, before anything is measured."""
    if read().temperature_c is None:
        raise MissingPart("this machine shows no temperature", "leave --cooldown away")


def wait(
    limit: float,
    say: Callable[[str], object],
    read: Callable[[], Reading] = sensors.read,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when the temperature is ``limit`` °C or less, looked at every five seconds.

    PitoolError when it is still too hot after 15 minutes.
    """
    waited = 0.0
    while True:
        temperature = read().temperature_c
        if temperature is None or temperature <= limit:
            return
        if waited >= LONGEST:
            raise PitoolError(
                f"it is still {temperature:.0f} °C after {LONGEST / 60:.0f} minutes",
                "ask for a higher --cooldown or add a fan",
            )
        say(f"{temperature:.0f} °C, waiting for {limit:g} °C")
        sleep(INTERVAL)
        waited += INTERVAL

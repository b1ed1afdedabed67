"""How far a job is, how fast it goes, and how long it will take: what a bar of it may say.

Never more than all, never less than nothing; the time left counts down, and is set anew only where
the speed has really changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import exp

from pitool.report.numbers import format_bytes, format_seconds, format_share

SETTLING_SECONDS = 8.0
"""A change of speed is believed by two thirds after so long."""

LEAST_SECONDS = 2.0
"""Before so long nothing is said of the time left."""

MOST_SECONDS = 30 * 86_400.0
"""Who is so slow stands still: the time left is not known."""

STEP_SECONDS = 0.25
"""The speed is looked at this often."""

DRIFT = 0.25
"""Share by which the time left may be wrong before it is set anew."""


class Pace:
    """Counts the units of a stage; ``total``: how many there are, as far as it is known."""

    def __init__(self, total: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = max(total, 1)
        self._clock = clock
        self._count = 0.0
        self._began = self._looked = clock()
        self._before: float | None = None
        self._rate = 0.0
        self._left: float | None = None

    def advance(self, count: float) -> None:
        """Count units; the first ones may have been there already and say nothing of the speed."""
        self._count += count
        now = self._clock()
        if self._before is None:
            self._before, self._began, self._looked = self.done, now, now
        elif now - self._looked >= STEP_SECONDS:
            self._look(now)

    def _look(self, now: float) -> None:
        assert self._before is not None
        passed = now - self._looked
        speed = max(self.done - self._before, 0.0) / passed
        # The mean at first, for a few steps say little.
        weight = max(1 - exp(-passed / SETTLING_SECONDS), passed / (now - self._began))
        self._rate += weight * (speed - self._rate)
        self._before, self._looked = self.done, now
        if now - self._began < LEAST_SECONDS or self._rate <= 0:
            return
        estimate = (self.total - self.done) / self._rate
        if estimate > MOST_SECONDS:
            self._left = None
            return
        counted = None if self._left is None else max(self._left - passed, 0.0)
        wrong = counted is None or abs(estimate - counted) > max(DRIFT * counted, LEAST_SECONDS)
        self._left = estimate if wrong else counted

    @property
    def done(self) -> float:
        """Units that are done, at most all."""
        return min(max(self._count, 0.0), self.total)

    @property
    def share(self) -> float:
        """What is done of all, from 0 to 1."""
        return self.done / self.total

    @property
    def rate(self) -> float:
        """Units in a second at the moment, smoothed; 0 where it is not known yet."""
        return self._rate

    @property
    def left(self) -> float | None:
        """Seconds until the end; None where that is not known yet."""
        return self._left

    @property
    def words(self) -> str:
        """The time left as a person says it; empty where it is not known."""
        return "" if self._left is None else f"{format_left(self._left)} left"

    def bytes_words(self) -> str:
        """Return how much of how many bytes, how fast, and the time left."""
        parts = [f"{format_share(self.share):>4} of {format_bytes(self.total)}"]
        if self._rate > 0:
            parts.append(f"{format_bytes(self._rate)}/s")
        return " · ".join([*parts, *filter(None, [self.words])])


def format_left(seconds: float) -> str:
    """Return seconds that are still to come, no more exact than they can be known."""
    if seconds < 10:
        return "a few seconds"
    step = 5 if seconds < 60 else 10 if seconds < 600 else 60
    return format_seconds(round(seconds / step) * step).replace(".0 s", " s")

"""The state of the board during each repetition, and the remarks on it.

A number that was measured on a throttled, starved or swapping board is marked as such; before a
test one can wait until the board is cool.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, TypeVar

from pitool.bench.run import Result
from pitool.device import sensors
from pitool.device.activity import Look
from pitool.device.sensors import Reading, Throttled
from pitool.errors import MissingPart, PitoolError
from pitool.report.numbers import format_celsius

Number = TypeVar("Number", int, float)

# Shares of one core, and pages or faults, below which nothing is said: a kernel is never silent.
OTHERS_SHARE = 0.10
SWAPPED_PAGES = 16
# The kernel counts CPU time in hundredths of a second: of less than this nothing can be said.
SHORTEST_SECONDS = 0.2
# How often the temperature is looked at while the board cools, and for how long at most.
COOLING_INTERVAL = 5.0
LONGEST_COOLING = 900.0


@dataclass(frozen=True, slots=True)
class Condition:
    """One repetition: degrees Celsius, MHz, firmware flags, and what else went on; None: unknown.

    ``throttled_now`` names the flags that held before, after or, because the firmware remembers
    them since boot, at some time within; ``throttled_told``: the flags that this board can tell;
    ``others``: CPU time of other processes as a share of one core; ``swap_ins`` in pages;
    ``major_faults`` of the worker.
    """

    temperature_before: float | None
    temperature_after: float | None
    clock_before: float | None
    clock_after: float | None
    throttled_now: tuple[str, ...] | None
    throttled_since_boot: tuple[str, ...] | None
    throttled_told: tuple[str, ...]
    others: float | None
    swap_ins: int | None
    major_faults: int | None

    @property
    def problems(self) -> tuple[str, ...]:
        """What makes the repetition incomparable, in words."""
        found = list(self.throttled_now or ())
        if self.others is not None and self.others > OTHERS_SHARE:
            found.append("other processes at work")
        if self.swap_ins is not None and self.swap_ins >= SWAPPED_PAGES:
            found.append("swapping")
        if self.major_faults:
            found.append("read from disk")
        return tuple(found)


def conditions(looks: Sequence[Look]) -> list[Condition]:
    """Return the condition of each repetition from the looks around them."""
    return [_between(before, after) for before, after in pairwise(looks)]


def _between(before: Look, after: Look) -> Condition:
    first, last = before.reading.throttled, after.reading.throttled
    both: list[Throttled] = [flags for flags in (first, last) if flags is not None]
    now = dict.fromkeys(flag for flags in both for flag in flags.now)
    if first and last:
        now |= dict.fromkeys(f for f in last.since_boot if f not in first.since_boot)
    return Condition(
        temperature_before=before.reading.temperature_c,
        temperature_after=after.reading.temperature_c,
        clock_before=before.reading.clock_mhz,
        clock_after=after.reading.clock_mhz,
        throttled_now=tuple(now) if both else None,
        throttled_since_boot=last.since_boot if last else None,
        throttled_told=last.told if last else (),
        others=_others(before, after),
        swap_ins=_difference(before.swap_ins, after.swap_ins),
        major_faults=_difference(before.major_faults, after.major_faults),
    )


def _others(before: Look, after: Look) -> float | None:
    """Return the CPU time of the processes that are not measured, over the time that passed."""
    busy = _difference(before.busy_seconds, after.busy_seconds)
    own = _difference(before.own_seconds, after.own_seconds)
    passed = after.seconds - before.seconds
    if busy is None or own is None or passed < SHORTEST_SECONDS:
        return None
    return round(max(busy - own, 0.0) / passed, 3)


def _difference(before: Number | None, after: Number | None) -> Number | None:
    return None if before is None or after is None else after - before


def to_json(condition: Condition) -> dict[str, Any]:
    """Return a condition as JSON values, its problems last."""
    return {**asdict(condition), "problems": list(condition.problems)}


def summary(results: Iterable[Result]) -> list[str]:
    """Return a sentence for each problem, for the heat, and for what this board cannot tell."""
    every: list[Condition] = []
    seen: Counter[str] = Counter()
    tests: dict[str, list[str]] = {}
    for result in results:
        for condition in conditions(result.looks):
            every.append(condition)
            for problem in condition.problems:
                seen[problem] += 1
                tests.setdefault(problem, []).append(result.workload.name)
    lines = [
        f"{problem} in {count} of {len(every)} repetitions"
        f" ({', '.join(dict.fromkeys(tests[problem]))}): {_MEANING[problem]}"
        for problem, count in seen.items()
    ]
    return [*lines, *_board(every, seen)] if every else []


def _board(every: Sequence[Condition], seen: Counter[str]) -> list[str]:
    """Return what is to be said of the board apart from problems of repetitions."""
    lines = []
    hottest = max((c.temperature_after or 0.0 for c in every), default=0.0)
    if hottest:
        lines.append(f"hottest {format_celsius(hottest)}")
    before = [flag for flag in every[-1].throttled_since_boot or () if flag not in seen]
    if before:
        lines.append(f"since boot, but not in these repetitions: {', '.join(before)}")
    if unknown := unknowns(every):
        lines.append(f"unknown on this machine: {', '.join(unknown)}")
    return lines


def unknowns(every: Iterable[Condition]) -> list[str]:
    """Return what none of these repetitions could tell."""
    every = list(every)
    told = {flag for c in every for flag in c.throttled_told}
    known = {
        "temperature": any(c.temperature_after is not None for c in every),
        "clock": any(c.clock_after is not None for c in every),
        "throttling": "throttled" in told,
        "under-voltage": "under-voltage" in told,
        "load of other processes": any(c.others is not None for c in every),
        "swapping": any(c.swap_ins is not None for c in every),
    }
    return [name for name, found in known.items() if not found]


_MEANING = {
    "under-voltage": "the power supply is too weak, so these figures are too low",
    "frequency capped": "the firmware capped the clock, so these figures are too low",
    "throttled": "the board was too hot, so these figures are too low",
    "soft temperature limit": "the clock was lowered because of heat, so these figures are too low",
    "other processes at work": "stop them and measure again",
    "swapping": "the model does not fit in the free memory",
    "read from disk": "part of the model was not in memory yet",
}


def check_thermometer(read: Callable[[], Reading] = sensors.read) -> None:
    """Raise MissingPart where there is no sensor, before anything is measured."""
    if read().temperature_c is None:
        raise MissingPart("this machine has no temperature sensor", "drop --cooldown")


def cooling(
    limit: float,
    sleep: Callable[[float], object],
    read: Callable[[], Reading] = sensors.read,
) -> Iterator[str]:
    """Wait until the temperature is ``limit`` °C or less; yield what is waited for.

    PitoolError when it is still too hot after 15 minutes.
    """
    waited = 0.0
    while (temperature := read().temperature_c) is not None and temperature > limit:
        if waited >= LONGEST_COOLING:
            raise PitoolError(
                f"the board is still at {format_celsius(temperature)} after"
                f" {LONGEST_COOLING / 60:g} minutes",
                "use a higher --cooldown, or add a fan",
            )
        yield f"{format_celsius(temperature)}, waiting for {format_celsius(limit)}"
        sleep(COOLING_INTERVAL)
        waited += COOLING_INTERVAL

"""Interleaved runs of two sides and what is said of them: medians, ratios, spreads.

A run during which other processes took a share of the machine is done again, on either side.
"""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from benchmarks.peer import Figure, say

Side = Callable[[], Sequence[Figure]]
LARGEST_DISTURBANCE = 0.03
TRIES = 8


@dataclass(slots=True)
class Samples:
    """Tokens per second of one test on both sides, a list a run."""

    ours: list[tuple[float, ...]] = field(default_factory=list)
    theirs: list[tuple[float, ...]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of one test: medians over all repetitions in tokens/s, ours over theirs, and spreads.

    ``pair_ratios``: of each pair's own medians; ``ratio``: the median of these, since a machine
    may be 20 % faster in one minute than in the next, but both runs of a pair are neighbours. A
    spread is the interquartile range over the median of all repetitions of one side.
    """

    test: str
    ours: float
    theirs: float
    ratio: float
    pair_ratios: tuple[float, ...]
    spread_ours: float
    spread_theirs: float

    def line(self) -> str:
        """Return it for people."""
        low, high = min(self.pair_ratios), max(self.pair_ratios)
        return (
            f"{self.test:>16}  ours {self.ours:8.2f} t/s  theirs {self.theirs:8.2f} t/s"
            f"  ratio {self.ratio:.3f}  (pairs {low:.3f} to {high:.3f})"
            f"  spread {self.spread_ours:.1%} and {self.spread_theirs:.1%}"
        )

    def json(self) -> dict[str, object]:
        """Return it as JSON values."""
        return asdict(self)


def interleave(ours: Side, theirs: Side, pairs: int) -> list[Comparison]:
    """Run both sides ``pairs`` times, A B, B A, A B, and compare tests of the same name.

    Each side runs once more beforehand, uncounted, so that files are in the page cache.
    """
    ours(), theirs()
    found: dict[str, Samples] = {}
    for pair in range(pairs):
        for first in (True, False):
            mine = first == (pair % 2 == 0)
            for figure in undisturbed(ours if mine else theirs):
                samples = found.setdefault(figure.test, Samples())
                (samples.ours if mine else samples.theirs).append(figure.samples)
        say(f"pair {pair + 1} of {pairs}")
    return [compare(test, samples) for test, samples in found.items()]


def undisturbed(side: Side) -> Sequence[Figure]:
    """Return a run during which others left the CPUs alone, or the last of some tries."""
    for _ in range(TRIES):
        start, others = time.monotonic(), _others()
        figures = side()
        seconds = (time.monotonic() - start) * (os.cpu_count() or 1)
        share = (_others() - others) / seconds
        if share <= LARGEST_DISTURBANCE:
            return figures
        say(f"others took {share:.0%} of the CPUs: again")
        time.sleep(1)
    return figures


def _others() -> float:
    """Return the CPU seconds that neither this process nor its descendants spent, stolen too."""
    path = Path("/proc/stat")
    if not path.exists():
        return 0.0
    user, nice, system, _idle, _wait, irq, softirq, steal, *_ = (
        int(word) for word in path.read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    )
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    own = sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, who))
    return busy - own - _running_descendants()


def _running_descendants() -> float:
    """Return the CPU seconds of the processes below this one that have not ended yet."""
    seconds = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            t = process.cpu_times()
            seconds += t.user + t.system + t.children_user + t.children_system
    return seconds


def compare(test: str, samples: Samples) -> Comparison:
    """Return what the samples of one test say."""
    ours = [value for run in samples.ours for value in run]
    theirs = [value for run in samples.theirs for value in run]
    pairs = zip(samples.ours, samples.theirs, strict=True)
    ratios = tuple(statistics.median(a) / statistics.median(b) for a, b in pairs)
    return Comparison(
        test=test,
        ours=statistics.median(ours),
        theirs=statistics.median(theirs),
        ratio=statistics.median(ratios),
        pair_ratios=ratios,
        spread_ours=_spread(ours),
        spread_theirs=_spread(theirs),
    )


def _spread(values: Sequence[float]) -> float:
    low, middle, high = statistics.quantiles(values, n=4)
    return (high - low) / middle

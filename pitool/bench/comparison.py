"""Two sets of rows side by side: which tests became faster or slower beyond the noise.

Whether one set of rates is faster than another is Welch's test on their logarithms: ratios of
speeds are compared, so their logarithms are what is normal enough. B. L. Welch, "The
generalization of 'Student's' problem when several different population variances are involved",
Biometrika 34 (1947).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pitool.bench.rows import BenchRow, test_name

SpeedChange = Literal["slower", "faster", "same", "unclear"]
THRESHOLD = 0.03
CONFIDENCE = 0.99
LARGEST_EXPONENT = 700.0

# What must be equal for two rows to be the same test.
_TESTS = ("n_prompt", "n_gen", "n_depth")
# What tells tests apart where a side has several values of it. Where each side has one, the
# comparison is of these: two quantisations, flash attention on and off, three threads and four.
_SETTINGS = (
    "host",
    "bundle",
    "model_type",
    "engine",
    "n_threads",
    "n_batch",
    "n_ubatch",
    "type_k",
    "type_v",
    "flash_attn",
    "load_mode",
    "repack",
)
# What makes a comparison one of two machines or models rather than of two versions.
_SURROUNDINGS = ("cpu_info", "board", "kernel", "firmware", "artifact_sha256")


@dataclass(frozen=True, slots=True)
class Ratio:
    """New over old: of the geometric means, its interval, and the two-sided p value.

    The interval is (0, infinity) and ``p`` 1 where one side has fewer than two samples.
    """

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, slots=True)
class ComparedTest:
    """One test on both sides, means in tokens/s.

    ``slower`` and ``faster``: the interval of the ratio leaves 1 out and the ratio differs by
    the threshold or more; ``same``: the whole interval is within it; else ``unclear``.
    """

    model: str
    test: str
    old: float
    new: float
    ratio: Ratio
    verdict: SpeedChange


@dataclass(frozen=True, slots=True)
class BenchComparison:
    """All tests that both sides have, what only one has, and what else differs."""

    lines: tuple[ComparedTest, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    differs: tuple[str, ...]

    @property
    def regressed(self) -> bool:
        """Tell whether any test became slower."""
        return any(line.verdict == "slower" for line in self.lines)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "regressed": self.regressed}


def compare(
    old: Sequence[BenchRow], new: Sequence[BenchRow], threshold: float = THRESHOLD
) -> BenchComparison:
    """Return what changed; samples of rows of the same test are taken together."""
    several = [k for k in _SETTINGS if max(len(_values(old, k)), len(_values(new, k))) > 1]
    before, after = _grouped(old, several), _grouped(new, several)
    shared = [key for key in before if key in after]
    return BenchComparison(
        tuple(_line(before[key], after[key], threshold) for key in shared),
        tuple(_name(rows[0]) for key, rows in before.items() if key not in after),
        tuple(_name(rows[0]) for key, rows in after.items() if key not in before),
        tuple(k for k in (*_SETTINGS, *_SURROUNDINGS) if _values(old, k) != _values(new, k)),
    )


def change(ratio: Ratio, threshold: float) -> SpeedChange:
    """Return what a ratio says beyond the noise."""
    if ratio.high < 1 and ratio.value <= 1 - threshold:
        return "slower"
    if ratio.low > 1 and ratio.value >= 1 + threshold:
        return "faster"
    return "same" if 1 - threshold < ratio.low and ratio.high < 1 + threshold else "unclear"


def _line(old: list[BenchRow], new: list[BenchRow], threshold: float) -> ComparedTest:
    before, after = _samples(old), _samples(new)
    ratio = compare_rates(before, after)
    return ComparedTest(
        model=str(old[0]["model_type"]),
        test=test_name(old[0]),
        old=sum(before) / len(before),
        new=sum(after) / len(after),
        ratio=ratio,
        verdict=change(ratio, threshold),
    )


def _grouped(rows: Sequence[BenchRow], several: list[str]) -> dict[tuple[Any, ...], list[BenchRow]]:
    groups: dict[tuple[Any, ...], list[BenchRow]] = {}
    for row in rows:
        if row["samples_ts"]:
            groups.setdefault(tuple(row.get(k) for k in (*_TESTS, *several)), []).append(row)
    return groups


def _samples(rows: Sequence[BenchRow]) -> list[float]:
    return [float(sample) for row in rows for sample in row["samples_ts"]]


def _values(rows: Sequence[BenchRow], key: str) -> set[Any]:
    return {row.get(key) for row in rows}


def _name(row: BenchRow) -> str:
    return f"{row['model_type']} {test_name(row)}"


def compare_rates(
    old: Sequence[float], new: Sequence[float], confidence: float = CONFIDENCE
) -> Ratio:
    """Return how much faster ``new`` is than ``old``; both hold tokens/s above zero."""
    a, b = [math.log(x) for x in old], [math.log(x) for x in new]
    difference = statistics.fmean(b) - statistics.fmean(a)
    if min(len(a), len(b)) < 2:
        return Ratio(math.exp(difference), 0.0, math.inf, 1.0)
    parts = [statistics.variance(a) / len(a), statistics.variance(b) / len(b)]
    error = math.sqrt(sum(parts))
    if error == 0:
        value = math.exp(difference)
        return Ratio(value, value, value, 1.0 if difference == 0 else 0.0)
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1))
    reach = student_quantile((1 + confidence) / 2, freedom) * error
    p = 2 * student_tail(abs(difference) / error, freedom)
    return Ratio(math.exp(difference), _exp(difference - reach), _exp(difference + reach), p)


def _exp(x: float) -> float:
    return math.exp(x) if x < LARGEST_EXPONENT else math.inf


def student_tail(t: float, freedom: float) -> float:
    """Return the probability that Student's t with ``freedom`` degrees is above ``t`` >= 0.

    Half the regularized incomplete beta function (Abramowitz and Stegun 26.7.1).
    """
    return 0.5 * _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))


def student_quantile(probability: float, freedom: float) -> float:
    """Return the t that is not exceeded with ``probability`` of 0.5 or more; by bisection."""
    low, high = 0.0, 1.0
    while student_tail(high, freedom) > 1 - probability:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        above = student_tail(middle, freedom) > 1 - probability
        low, high = (middle, high) if above else (low, middle)
    return (low + high) / 2


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Return I_x(a, b) by its continued fraction (Abramowitz and Stegun 26.5.8)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly, its mirror is quick
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    fraction = 1.0
    for m in range(200, 0, -1):  # from the inside out
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1))
        fraction = 1 + odd / (1 + even / fraction)
    return front / (a * fraction)

"""Is one set of rates really faster than another: Welch's test on the logarithms.

B. L. Welch, "The generalization of 'Student's' problem when several different population
variances are involved", Biometrika 34 (1947). Ratios of speeds are compared, so their logarithms
are what is normal enough.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.99


@dataclass(frozen=True, slots=True)
class Ratio:
    """New over old: of the geometric means, its interval, and the two-sided p value.

    The interval is (0, infinity) and ``p`` 1 where one side has fewer than two samples.
    """

    value: float
    low: float
    high: float
    p: float


def compare(old: Sequence[float], new: Sequence[float], confidence: float = CONFIDENCE) -> Ratio:
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
    return Ratio(
        math.exp(difference), math.exp(difference - reach), math.exp(difference + reach), p
    )


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

"""Student's t against printed tables, Welch's test against a worked example, and verdicts."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from pitool.bench import comparison
from pitool.bench.artifact import MeasuredArtifact
from pitool.bench.rows import BenchRow, row
from pitool.bench.run import Result, Workload, measure
from pitool.engine.scripted import Scripted


@pytest.mark.parametrize(
    ("freedom", "two_sided_95", "two_sided_99"),
    [
        (1, 12.706, 63.657),
        (2, 4.303, 9.925),
        (4, 2.776, 4.604),
        (8, 2.306, 3.355),
        (30, 2.042, 2.750),
    ],
)
def test_quantiles_are_those_of_printed_tables(
    freedom: int, two_sided_95: float, two_sided_99: float
) -> None:
    assert comparison.student_quantile(0.975, freedom) == pytest.approx(two_sided_95, abs=6e-4)
    assert comparison.student_quantile(0.995, freedom) == pytest.approx(two_sided_99, abs=6e-4)


def test_two_degrees_of_freedom_have_a_closed_form() -> None:
    for t in (0.0, 0.3, 1.0, 5.0):
        expected = 0.5 - t / (2 * math.sqrt(2 + t * t))
        assert comparison.student_tail(t, 2) == pytest.approx(expected, abs=1e-12)


def test_welch_on_equal_variances_is_student_s_pooled_test() -> None:
    # Two sides of four samples with the same variance: 6 degrees of freedom, by hand.
    old, new = [1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 4.0, 5.0]
    ratio = comparison.compare_rates([math.exp(x) for x in old], [math.exp(x) for x in new], 0.95)
    error = math.sqrt(2 * (5 / 3) / 4)
    assert math.log(ratio.value) == pytest.approx(1.0)
    assert math.log(ratio.high) == pytest.approx(1.0 + 2.4469 * error, abs=1e-3)
    assert ratio.p == pytest.approx(0.3153, abs=1e-3)  # t = 1.0954


def test_one_sample_proves_nothing() -> None:
    assert comparison.compare_rates([100.0], [50.0]).p == 1.0


class Noisy(Scripted):
    """A script whose every evaluation is off by about two per cent."""

    def __init__(self, rate: float, seed: int) -> None:
        super().__init__(decode_rate=rate)
        self._random = random.Random(seed)

    def time_forward(self, ids: object, *, one_by_one: bool) -> float:
        seconds = super().time_forward(ids, one_by_one=one_by_one)  # type: ignore[arg-type]
        return seconds * self._random.gauss(1.0, 0.02)


def rows(rate: float, seed: int) -> list[BenchRow]:
    found: list[Result] = list(measure(Noisy(rate, seed), [Workload(generate=32)], 5))
    return [row(found[-1], MeasuredArtifact(Path("toy.gguf"), "toy", "Q4_0", None, None))]


def verdicts(rate: float) -> list[str]:
    pairs = [(rows(100.0, seed), rows(rate, seed + 1000)) for seed in range(100)]
    return [comparison.compare(old, new).lines[0].verdict for old, new in pairs]


@pytest.mark.thorough
def test_a_regression_of_ten_per_cent_is_found_and_one_of_one_is_not_called_one() -> None:
    assert verdicts(90.0).count("slower") >= 98
    assert verdicts(99.0).count("slower") <= 2
    assert verdicts(110.0).count("faster") >= 98
    assert {"slower", "faster"}.isdisjoint(verdicts(100.0)[:50])


def test_only_equal_tests_are_compared_and_surroundings_are_named() -> None:
    old, new = rows(100.0, 1), rows(100.0, 2)
    new[0] |= {"kernel": "Linux 99"}
    other = json.loads(json.dumps(new[0])) | {"n_depth": 512}
    found = comparison.compare(old, [*new, other])
    assert len(found.lines) == 1
    assert found.only_new == ("script 250K F32 tg32 @ d512",)
    assert found.differs == ("kernel",)


def test_a_setting_that_differs_between_the_sides_is_compared_one_that_varies_is_not_mixed() -> (
    None
):
    def at(rate: float, seed: int, **changes: object) -> BenchRow:
        return rows(rate, seed)[0] | changes

    found = comparison.compare([at(100, 1, flash_attn=0)], [at(150, 2, flash_attn=1)])
    assert [line.verdict for line in found.lines] == ["faster"]
    assert found.differs == ("flash_attn",)
    both = [at(100, 3, n_threads=2), at(50, 4, n_threads=4)]
    found = comparison.compare(both, both)
    assert [round(line.old / 50) for line in found.lines] == [2, 1]
    assert found.differs == ()

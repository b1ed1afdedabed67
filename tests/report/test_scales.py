"""Axes: their ends and ticks by hand, and that everything lies on them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pitool.report.scales import linear, logarithmic, plain

POSITIVE = st.floats(1e-4, 1e4)


def test_an_axis_from_zero_ends_above_the_values_at_a_round_number() -> None:
    scale = linear([3.0, 8.7], 0, 100)
    assert list(scale.ticks) == [0, 2, 4, 6, 8, 10]
    assert (scale.at(0), scale.at(5), scale.at(10)) == (0, 50, 100)


@pytest.mark.parametrize(
    ("value", "ticks"),
    [
        (0.037, "0 0.01 0.02 0.03 0.04"),
        (11.8, "0 5 10 15"),
        (92.4, "0 20 40 60 80 100"),
        (99.0, "0 25 50 75 100 125"),
        (1430.0, "0 500 1000 1500 2000"),
    ],
)
def test_few_round_ticks_by_hand(value: float, ticks: str) -> None:
    assert " ".join(map(plain, linear([value], most=5).ticks)) == ticks


@given(st.lists(POSITIVE, min_size=1, max_size=5))
def test_ticks_are_few_and_on_the_axis(values: list[float]) -> None:
    for scale in (linear(values, 0, 100), logarithmic(values, 0, 100)):
        assert len(scale.ticks) <= 10
        assert all(-1e-6 <= scale.at(tick) <= 100 + 1e-6 for tick in scale.ticks)
        assert all(0 <= scale.at(value) <= 100 for value in values)


@given(st.floats(1e-6, 1e6), st.integers(2, 9))
def test_there_are_no_more_steps_than_asked_for(value: float, most: int) -> None:
    assert 2 <= len(linear([value], most=most).ticks) <= most + 1


def test_a_log_axis_by_hand() -> None:
    scale = logarithmic([1.0, 10.0], 0, 100)
    assert scale.ticks == pytest.approx((1, 2, 5, 10))
    assert scale.at(10) - scale.at(1) == pytest.approx(scale.at(5) - scale.at(0.5))

"""What a bar says, by a clock of the test's own."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pitool.report.pace import Pace, format_left


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@example(steps=[(0.0, 0.0), (2.0, 2.2250738585072014e-308)])
@given(st.lists(st.tuples(st.floats(0, 5), st.floats(-50, 80)), max_size=30))
def test_never_more_than_all_nor_less_than_nothing(steps: list[tuple[float, float]]) -> None:
    clock = Clock()
    pace = Pace(100, clock)
    for seconds, count in steps:
        clock.now += seconds
        pace.advance(count)
        assert 0 <= pace.share <= 1
        assert 0 <= pace.done <= 100
        assert pace.rate >= 0
        assert pace.left is None or pace.left >= 0
        assert "-" not in pace.bytes_words()


def test_what_was_there_already_says_nothing_of_the_speed() -> None:
    clock = Clock()
    pace = Pace(1000, clock)
    pace.advance(500)
    for _ in range(10):
        clock.now += 1
        pace.advance(10)
    assert pace.rate == pytest.approx(10)
    assert pace.left == pytest.approx((1000 - 600) / 10)


def test_the_time_left_counts_down_while_the_speed_wavers() -> None:
    clock = Clock()
    pace = Pace(10_000, clock)
    pace.advance(0)
    shown = []
    for step in range(200):
        clock.now += 0.5
        pace.advance(15 if step % 2 else 25)  # 40 a second on the whole
        if pace.left is not None:
            shown.append(pace.left)
    falls = [before - after for before, after in pairwise(shown)]
    assert min(falls) >= 0
    assert max(falls) < 3
    assert shown[-1] == pytest.approx((10_000 - 4000) / 40, rel=0.25)


def test_a_speed_that_really_changed_is_believed() -> None:
    clock = Clock()
    pace = Pace(10_000, clock)
    pace.advance(0)
    for rate in (100, 10):
        for _ in range(40):
            clock.now += 1
            pace.advance(rate)
    assert pace.left == pytest.approx((10_000 - 4400) / 10, rel=0.3)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "a few seconds"), (9.9, "a few seconds"), (33, "35 s"), (61, "60 s"), (126, "2 min 10 s"),
     (700, "12 min"), (7300, "2 h 2 min")],
)  # fmt: skip
def test_no_more_exact_than_it_can_be_known(seconds: float, text: str) -> None:
    assert format_left(seconds) == text

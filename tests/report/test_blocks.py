"""Charts of a terminal: bars by hand, round numbers on the axis, and no line past the width."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pitool.report.blocks import chart, horizontal


def test_a_chart_by_hand() -> None:
    assert chart([(0, 5.0), (1, 10.0)], width=4, height=2, ends=("then", "now")) == [
        "     10 ┤   █",
        "      5 ┤████",
        "      0 └────",
        "         then now",
    ]


@pytest.mark.parametrize(("most", "top"), [(0.83, "1"), (8.7, "10"), (11.8, "12"), (256.0, "300")])
def test_the_axis_ends_at_a_round_number_above(most: float, top: str) -> None:
    assert chart([(0, most)], width=1)[0].split()[0] == top


@example([5e-324], 1, 6)
@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=30),
    st.integers(1, 60),
    st.sampled_from([6, 8]),
)
def test_no_line_is_wider_than_the_chart_and_ticks_are_short(
    values: list[float], width: int, height: int
) -> None:
    lines = chart(list(enumerate(values)), width=width, height=height)
    assert len(lines) == height + 1
    for line in lines:
        tick, side, bar = re.fullmatch(r"(.{7}) ([┤│└])(.*)", line).groups()  # type: ignore[union-attr]
        assert len(bar) <= width
        assert (side == "│") == (not tick.strip())
    assert len(re.findall("┤", "".join(lines))) == 2


def test_a_chart_fits_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert max(map(len, chart([(0, 1.0), (1, 2.0)]))) <= 40


def test_horizontal_bars_by_hand() -> None:
    assert [horizontal(value, 4.0, 4) for value in (0, 1, 1.5, 4)] == ["", "█", "█▌", "████"]

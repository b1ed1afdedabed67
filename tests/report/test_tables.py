"""Reports as text: what is too wide for a terminal is wrapped, nothing is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pitool.report.tables import WIDTH, Section, to_text

NAMES = st.lists(st.sampled_from(["pi4b", "cm4", "pi500plus", "zero2w"]), min_size=1, max_size=8)


@given(st.lists(NAMES, min_size=1, max_size=4), st.integers(1, 5))
def test_a_wide_first_column_is_wrapped(boards: list[list[str]], columns: int) -> None:
    figures = ["29848/3019"] * columns
    rows = [[", ".join(names), *figures] for names in boards]
    text = to_text([Section("t", ["board", *["Q8_0"] * columns], rows, [])])
    lines = text.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert text.count("29848/3019") == len(boards) * columns
    words = [w for line in lines[3:] for w in line.replace(",", " ").split() if "/" not in w]
    assert words == [name for names in boards for name in names]


def test_a_table_that_fits_is_left_alone() -> None:
    assert to_text([Section("t", ["a", "b"], [["x, y", "1"]])]) == "t\na     b\n-------\nx, y  1"

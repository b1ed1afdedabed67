"""Numbers as text, by hand and by property: figures that differ never read alike where compared."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import pitool
from pitool.errors import UsageError
from pitool.report import numbers

SIZES = st.integers(0, 2**63)


@given(st.lists(SIZES, min_size=2, max_size=4))
@example([15_000_000_000, 15_000_000_001])
@example([2**60, 2**60 + 1])
def test_sizes_that_differ_never_read_alike(sizes: list[int]) -> None:
    texts = numbers.compare_bytes(*sizes)
    assert len(set(texts)) == len(set(sizes))


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=3))
def test_figures_that_differ_never_read_alike(values: list[float]) -> None:
    texts = numbers.compare_fixed(*values, digits=2)
    assert len(set(texts)) == len(set(values))


def test_sizes_side_by_side_by_hand() -> None:
    assert numbers.compare_bytes(15_000_000_000, 15_010_000_000) == ("15.00 GB", "15.01 GB")
    assert numbers.compare_bytes(1_240_000_000, 1_360_000_000) == ("1.24 GB", "1.36 GB")
    assert numbers.format_part(1_240_000_000, 1_360_000_000) == "1.24 of 1.36 GB"
    assert numbers.format_part(812_000_000, 1_360_000_000) == "812 MB of 1.36 GB"
    assert numbers.format_part(5, 5) == "5 of 5 B"


@given(st.integers(1, 10**15))
def test_a_size_is_read_back_within_its_digits(count: int) -> None:
    text = numbers.format_bytes(count)
    number, unit = text.split()
    size = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit]
    assert float(number) * size == pytest.approx(count, rel=0.06)
    assert float(number) < 1000 or unit == "GB"


@pytest.mark.parametrize(("text", "count"), [("1.9gb", 1_900_000_000), ("700 MB", 700_000_000)])
def test_sizes_that_people_write(text: str, count: int) -> None:
    assert numbers.parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "0gb", "1.9", "-1gb", "gb", "1e9"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        numbers.parse_bytes(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0.00"), (0.1, "0.100"), (0.01234, "0.0123"), (1.5, "1.50"), (12.34, "12.3"),
     (123.4, "123"), (12345.6, "12,346")],
)  # fmt: skip
def test_three_significant_digits(value: float, text: str) -> None:
    assert numbers.format_significant(value) == text


def test_the_other_kinds_by_hand() -> None:
    assert numbers.format_range([9.84, 4.11]) == "4.1–9.8"
    assert numbers.format_range([4.11, 4.12]) == "4.1"
    assert numbers.format_range([]) == numbers.NONE
    assert numbers.format_speed(99.96) == "100"
    assert numbers.format_seconds(9.994) == "9.99 s"
    assert numbers.format_seconds(9.996) == "10.0 s"
    assert numbers.format_seconds(99.94) == "99.9 s"
    assert numbers.format_seconds(125) == "2 min 5 s"
    assert numbers.format_seconds(119.7) == "2 min"
    assert numbers.format_seconds(3600) == "1 h"
    assert numbers.format_seconds(4805) == "1 h 20 min"
    assert numbers.format_share(0.973, 1) == "97.3%"
    assert numbers.format_millions(1_543_714_304) == "1,543.7 M"
    assert numbers.format_millions(262_000) == "0.26 M"
    assert numbers.format_gigabytes(91_000_000) == "0.091"
    assert numbers.format_date("2026-11-12T14:05:09+00:00") == "2026-11-12"


def test_days_as_people_say_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    now = datetime(2026, 11, 29, 10, 0, tzinfo=UTC).timestamp()
    for moment, words in (
        ((2026, 11, 29, 9, 5), "09:05"),
        ((2026, 11, 28, 23, 59), "yesterday"),
        ((2026, 11, 27, 0, 1), "Friday"),
        ((2026, 11, 23, 12, 0), "Monday"),
        ((2026, 11, 22, 12, 0), "22 Nov"),
        ((2025, 12, 31, 12, 0), "31 Dec 2025"),
    ):
        assert numbers.format_day(datetime(*moment, tzinfo=UTC).timestamp(), now) == words


def test_numbers_load_the_standard_library_alone() -> None:
    code = "import sys, pitool.report.numbers, pitool.report.tables; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"rich", "jinja2", "click", "numpy"} & set(done.stdout.split())


# Elsewhere: what llama-bench prints, prices, and the chart's coordinates.
FORMATS_OF_THEIR_OWN = {
    "bench/rows.py", "cli/plan_offers.py", "cli/plan_rent.py", "report/canvas.py",
    "report/numbers.py", "report/scales.py",
}  # fmt: skip


def test_numbers_are_formatted_here_alone() -> None:
    root = Path(pitool.__file__).parent
    own = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(r"\{[^{}\"]*:,?[<>^]?\d*\.\d+[f%]\}", path.read_text(encoding="utf-8"))
    }
    assert own == FORMATS_OF_THEIR_OWN

"""The predictor against what was published: the targets, and that the fit is honest."""

from __future__ import annotations

import statistics

from benchmarks.predict import compare, fitted, summary
from pitool.catalog.boards import boards


def test_every_published_row_is_predicted_well() -> None:
    rows = compare()
    assert len(rows) >= 40
    assert statistics.median(abs(c.decode_error) for c in rows) <= 0.12
    for c in rows:
        assert abs(c.decode_error) <= min(0.30, boards()[c.row.board].decode_error), c.row
        assert c.prefill_factor is None or c.prefill_factor <= 1.5, c.row


def test_a_third_of_the_rows_is_kept_out_and_predicted_as_well() -> None:
    rows = compare()
    unseen = [c for c in rows if c.held_out]
    assert len(unseen) == len(rows) // 3
    assert statistics.median(abs(c.decode_error) for c in unseen) <= 0.12


def test_the_table_holds_what_the_fit_gives() -> None:
    found = fitted(compare())
    pi5, pi4 = boards()["pi5"], boards()["pi4b"]
    assert abs(pi5.bandwidth_gbs / found["BCM2712 best"] - 1) < 0.02
    assert abs(pi5.bandwidth_all_gbs / found["BCM2712 all"] - 1) < 0.02
    assert abs(pi4.bandwidth_gbs / found["BCM2711 all"] - 1) < 0.02


def test_errors_that_are_published_are_those_that_the_rows_have() -> None:
    largest = summary(compare())["decode_largest_error"]
    assert isinstance(largest, float)
    assert largest <= boards()["pi5"].decode_error < largest + 0.05

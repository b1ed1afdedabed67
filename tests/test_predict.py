"""The predictor against what was published: the targets, and that the fit is honest."""

from __future__ import annotations

import pytest

from benchmarks.predict import (
    MANY_MODELS,
    Comparison,
    compare,
    figures,
    fitted,
    fitted_attention,
    fitted_costs,
    newest,
    told,
)
from pitool.catalog.boards import boards
from pitool.catalog.kernels import kernels

# Published from setups that are slower or faster than any in the fit: the same board with newer
# firmware and 16 GB streams a fifth more, one Pi 4 multiplies and streams a third less.
OUTSIDE = {
    ("cm5", "llama-3b", "Q4_K_M"),
    ("pi4b", "gemma4-e2b", "Q4_K_M"),
    ("pi4b", "qwen3_5-0_8b", "IQ4_NL"),
}


@pytest.fixture(scope="module")
def rows() -> list[Comparison]:
    return compare()


def test_models_of_2026_are_predicted_unseen(rows: list[Comparison]) -> None:
    found = newest(rows)
    assert len(found) == 5
    assert all(c.row.held_out for c in found)
    seen = figures(found)
    assert seen["prefill_median_factor"] <= 1.25
    assert seen["prefill_largest_factor"] <= 1.6
    assert seen["decode_median_error"] <= 0.08


def test_every_row_is_in_the_printed_range_but_those_that_are_known(
    rows: list[Comparison],
) -> None:
    out = [c for c in rows if c.in_decode_range is False]
    assert {(c.board, c.row.model, c.row.quantisation) for c in out} == OUTSIDE
    assert all(c.row.held_out for c in out)
    assert all(c.in_prefill_range is not False for c in rows)


def test_the_range_says_something(rows: list[Comparison]) -> None:
    """No wider than what the rows of the fit need, in steps of a twentieth."""
    errors = [
        abs(c.row.decode / c.predicted.decode - 1)
        for c in rows
        if c.row.decode and not c.row.held_out and boards()[c.board].soc == "BCM2712"
    ]
    assert 0 <= boards()["pi5"].decode_error - max(errors) < 0.05


def test_types_are_told_apart(rows: list[Comparison]) -> None:
    """Published at 1B on a Pi 5: from 49 to 130 tokens/s, in this order."""
    found = [c for c in rows if c.source.source.startswith("published at 1B")]
    assert [c.row.quantisation for c in found] == ["Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0"]
    speeds = [c.predicted.prefill for c in found]
    assert speeds == sorted(speeds, reverse=True)
    assert speeds[0] / speeds[-1] == pytest.approx(130 / 49, rel=0.1)


def test_lfm2_is_predicted_as_well_as_a_plain_transformer(rows: list[Comparison]) -> None:
    found = [c for c in rows if c.row.model.startswith("lfm2")]
    assert len(found) == 8
    assert max(c.prefill_factor or 0 for c in found) <= 1.1


def test_a_third_of_the_rows_is_kept_out_and_predicted_as_well(rows: list[Comparison]) -> None:
    unseen = [c for c in rows if c.row.held_out]
    assert len(unseen) >= len(rows) // 4
    assert figures(unseen)["decode_median_error"] <= 0.05
    assert figures(unseen)["prefill_median_factor"] <= 1.05


def test_the_tables_hold_what_the_fit_gives(rows: list[Comparison]) -> None:
    found = fitted(rows)
    pi5, pi4 = boards()["pi5"], boards()["pi4b"]
    assert pi5.bandwidth_gbs == pytest.approx(found["BCM2712 best"], rel=0.02)
    assert pi5.bandwidth_all_gbs == pytest.approx(found["BCM2712 all"], rel=0.02)
    assert pi4.bandwidth_gbs == pytest.approx(found["BCM2711 all"], rel=0.02)
    held = {each.key: each.held for each in told(rows)}
    assert held == pytest.approx(fitted_costs(told(rows)), rel=0.02)
    assert kernels()[MANY_MODELS].attention == pytest.approx(
        fitted_attention(told(rows), MANY_MODELS), abs=0.2
    )

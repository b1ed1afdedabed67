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

# One Pi 4 and its build, which stream a quarter less than all others that are published.
OUTSIDE = {("pi4b", "gemma4-e2b", "Q4_K_M"), ("pi4b", "qwen3_5-0_8b", "IQ4_NL")}


@pytest.fixture(scope="module")
def rows() -> list[Comparison]:
    return compare()


def test_models_of_2026_are_predicted_unseen(rows: list[Comparison]) -> None:
    found = newest(rows)
    assert len(found) == 4
    assert all(c.row.held_out for c in found)
    seen = figures(found)
    assert seen["decode_out_of_range"] == 0
    assert seen["prefill_median_factor"] <= 1.25
    assert seen["prefill_largest_factor"] <= 1.6
    assert seen["decode_median_error"] <= 0.09


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
    assert max(abs(c.decode_error or 1) for c in found) <= 0.1


def test_another_engine_is_never_fitted(rows: list[Comparison]) -> None:
    found = [c for c in rows if "ollama" in c.source.source]
    assert len(found) == 9
    assert all(c.row.held_out for c in found)


def test_a_deep_cache_and_a_recurrent_state_take_time_from_a_decode(
    rows: list[Comparison],
) -> None:
    """Qwen3.5 2B: 18 layers of 2048 channels with 128 numbers each, six layers with attention."""
    deep = next(c for c in rows if c.source.depth)
    assert deep.model.state_bytes == 18 * 2048 * 128 * 4
    weights = sum(t.bytes * deep.model.read_share(t.tensor.name) for t in deep.typed)
    cached = 2048 * 6 * 2 * 512 * 2
    assert deep.predicted.decode == pytest.approx(
        1e9 * boards()["pi5"].bandwidth_all_gbs / (weights + 2 * deep.model.state_bytes + cached)
    )


def test_a_third_of_the_rows_is_kept_out_and_predicted_as_well(rows: list[Comparison]) -> None:
    unseen = [c for c in rows if c.row.held_out]
    assert len(unseen) >= len(rows) // 4
    assert figures(unseen)["decode_median_error"] <= 0.06
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

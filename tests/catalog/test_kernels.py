"""Lints ``recipes/kernels.toml``, and what the loader makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.predict import compare, told
from pitool.catalog.kernels import find_kernels, kernels, load_kernels
from pitool.catalog.tensor_types import QUANTISATIONS, REPACKED, TENSOR_TYPES
from pitool.errors import BadInput

every_feature = pytest.mark.parametrize("feature", kernels())


@every_feature
def test_types_are_known_and_interleaved_ones_are_those_of_ggml(feature: str) -> None:
    costs = kernels()[feature]
    assert {*costs.plain, *costs.interleaved} <= set(TENSOR_TYPES)
    assert set(costs.interleaved) == REPACKED.get(feature, frozenset())
    assert {q.base for q in QUANTISATIONS.values()} <= set(costs.plain)


@every_feature
def test_every_cost_is_fitted_or_has_a_source(feature: str) -> None:
    """Attention is fitted where models are published that differ in it."""
    costs = kernels()[feature]
    fitted = {t.key.removeprefix(f"{feature}.") for t in told(compare()) if t.feature == feature}
    tables = {"plain": costs.plain, "interleaved": costs.interleaved}
    names = {f"{table}.{name}" for table, found in tables.items() for name in found}
    assert names - fitted == {key for key in costs.sources if "." in key}
    assert "unknown" in costs.sources
    assert all(len(source) >= 10 for source in costs.sources.values())


@every_feature
def test_interleaving_is_never_slower(feature: str) -> None:
    costs = kernels()[feature]
    for name, cost in costs.interleaved.items():
        assert cost < costs.plain.get(name, costs.unknown), name
    assert costs.unknown >= max(c for n, c in costs.plain.items() if n[0] in "QI")


def test_an_unknown_table_names_the_nearest() -> None:
    assert find_kernels("neon") == kernels()["neon"]
    with pytest.raises(BadInput, match="unknown table of kernels 'dotprot'"):
        find_kernels("dotprot")


def test_a_cost_is_that_of_the_plain_kernel_where_no_other_is_known() -> None:
    costs = kernels()["dotprod"]
    assert costs.cost("Q4_0", interleaved=True) == costs.interleaved["Q4_0"]
    assert costs.cost("Q4_0", interleaved=False) == costs.plain["Q4_0"]
    assert costs.cost("Q3_K", interleaved=True) == costs.plain["Q3_K"]
    assert costs.cost("IQ1_S", interleaved=False) == costs.unknown


def test_a_cost_of_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kernels.toml"
    text = "[neon]\nattention = 1.0\nunknown = 0.0\nplain = {}\ninterleaved = {}\nsources = {}\n"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match="a cost is not positive"):
        load_kernels(path)

"""What a size means: the numbers of a real model, against its own settings; a rule for the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from pitool.catalog.model_argument import parse_size
from pitool.catalog.profiles import find_profile
from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.checkpoint.config import read_config
from pitool.convert.gguf.model import model_shape
from pitool.errors import BadInput
from pitool.planning.formats.base import PlannedModel
from pitool.planning.memory import Load
from pitool.planning.places import Verdict, tier_places
from pitool.planning.planner import Planner
from pitool.planning.shapes import sized_shape, sizes, typical_shape

REAL = {
    "135M": "SmolLM2-135M-Instruct", "0.5B": "Qwen2.5-0.5B-Instruct", "0.6B": "Qwen3-0.6B",
    "1.1B": "TinyLlama-1.1B-Chat-v1.0", "1.5B": "Qwen2.5-1.5B-Instruct", "1.7B": "Qwen3-1.7B",
    "3B": "Llama-3.2-3B-Instruct", "7B": "Qwen2.5-7B-Instruct", "8B": "Qwen3-8B",
    "14B": "Qwen2.5-14B-Instruct",
}  # fmt: skip


@pytest.mark.parametrize("size", REAL)
def test_a_size_is_the_model_that_it_names(shared_data: Path, size: str) -> None:
    config = read_config(shared_data / "configs" / REAL[size])
    real = model_shape(config)
    found = sized_shape(size.lower())
    name, shape = found
    assert name.startswith(f"a typical {size}, like ")
    assert shape.parameters == pytest.approx(real.parameters, rel=1e-4)
    assert (shape.layers, shape.layer_caches(), shape.context) == (
        real.layers, real.layer_caches(), real.context,
    )  # fmt: skip


def test_no_name_promises_less_than_its_number() -> None:
    for number, size in sizes().items():
        assert 0.98 * number < size.shape.parameters < 1.24 * number, size.model


def test_other_sizes_have_a_shape_by_rule() -> None:
    assert sized_shape("2.5B") == ("a typical 2.5B", typical_shape(2.5e9))
    assert parse_size("qwen") is None
    with pytest.raises(BadInput, match="between 30M and 1000B"):
        sized_shape("9999B")


def test_fourteen_billion_in_8_bits_do_not_fit_16_gb() -> None:
    """Names round down: 14.77 billion weights and their cache are more than the board has."""
    found = sized_shape("14B")
    planner = Planner(PlannedModel(*found), find_profile("balanced"), Load(4096))
    verdicts = {
        (place.name, name): planner.row(QUANTISATIONS[name], place).verdict
        for place in tier_places()
        for name in ("Q8_0", "Q4_K_M", "Q3_K_M")
    }
    assert verdicts["16gb", "Q8_0"] is not Verdict.FITS
    assert verdicts["16gb", "Q4_K_M"] is Verdict.FITS
    assert verdicts["8gb", "Q3_K_M"] is not Verdict.FITS

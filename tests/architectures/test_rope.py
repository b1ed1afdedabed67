"""The rotation in both layouts of transformers, with the numbers of each scaling."""

from __future__ import annotations

from math import log, sqrt
from pathlib import Path
from typing import Any

import pytest

from pitool.architectures.rope import Dynamic, Linear, Llama3, LongRope, Rope, Yarn, read_rope
from pitool.architectures.settings import Settings
from pitool.architectures.table import describe
from pitool.checkpoint.config import Config
from pitool.errors import BadInput
from tests.tiny import LLAMA

PATH = Path("model/config.json")
LLAMA3 = {
    "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
SCALED = Llama3(8.0, 1.0, 4.0, 8192.0)


def read(head_dim: int = 64, **values: Any) -> Rope:
    defaults = {"model_type": "llama", "max_position_embeddings": 2048}
    return read_rope(Settings(Config({**defaults, **values}, PATH)), head_dim, share=1.0)


def yarn(**values: Any) -> Yarn:
    scaling = read(rope_scaling={"rope_type": "yarn", **values}).scaling
    assert isinstance(scaling, Yarn)
    return scaling


ROPES: dict[str, tuple[dict[str, Any], Rope]] = {
    "nothing": ({}, Rope(10000.0, 64)),
    "theta of transformers 4": ({"rope_theta": 5e5}, Rope(5e5, 64)),
    "theta is an integer": ({"rope_theta": 500000}, Rope(5e5, 64)),
    "scaling is null": ({"rope_theta": 1e6, "rope_scaling": None}, Rope(1e6, 64)),
    "llama3 of transformers 4": (
        {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
        Rope(5e5, 64, "llama3", SCALED),
    ),
    "llama3 of transformers 5": (
        {"rope_parameters": {"rope_theta": 5e5, "rope_type": "llama3", **LLAMA3}},
        Rope(5e5, 64, "llama3", SCALED),
    ),
    "default of transformers 5": (
        {"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}, Rope(1e6, 64),
    ),
    "the old word for the kind": (
        {"rope_scaling": {"type": "linear", "factor": 4.0}},
        Rope(10000.0, 64, "linear", Linear(4.0)),
    ),
    "both words for the kind": (
        {"rope_scaling": {"rope_type": "yarn", "type": "yarn", "factor": 4.0}},
        Rope(10000.0, 64, "yarn", Yarn(4.0, 2048, 0.1 * log(4) + 1)),
    ),
    "the original context outside of the table": (
        {
            "rope_parameters": {"rope_type": "yarn", "factor": 2.0},
            "original_max_position_embeddings": 4096,
        },
        Rope(10000.0, 64, "yarn", Yarn(2.0, 4096, 0.1 * log(2) + 1)),
    ),
    "both layouts": (
        {
            "rope_theta": 1e6,
            "rope_scaling": {"rope_type": "linear", "factor": 3.0},
            "rope_parameters": {"rope_type": "linear", "factor": 3.0},
        },
        Rope(1e6, 64, "linear", Linear(3.0)),
    ),
    "truncate is null, which is false": (
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "truncate": None}},
        Rope(10000.0, 64, "yarn", Yarn(4.0, 2048, 0.1 * log(4) + 1, truncate=False)),
    ),
    "longrope stretched by its factor": (
        {
            "rope_scaling": {
                "rope_type": "longrope", "short_factor": [1.0] * 32, "long_factor": [2] * 32,
                "factor": 4.0,
            },
        },
        Rope(
            10000.0, 64, "longrope",
            LongRope((1.0,) * 32, (2.0,) * 32, 2048, sqrt(1 + log(4) / log(2048))),
        ),
    ),
    "dynamic": (
        {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
        Rope(10000.0, 64, "dynamic", Dynamic()),
    ),
    "a part of the head": ({"partial_rotary_factor": 0.25}, Rope(10000.0, 16)),
    "a part of the head of transformers 5": (
        {"rope_parameters": {"partial_rotary_factor": 0.5}}, Rope(10000.0, 32),
    ),
    "longrope": (
        {
            "original_max_position_embeddings": 1024,
            "rope_scaling": {
                "type": "longrope", "short_factor": [1.0] * 32, "long_factor": [2] * 32,
            },
        },
        Rope(
            10000.0, 64, "longrope",
            LongRope((1.0,) * 32, (2.0,) * 32, 1024, sqrt(1 + log(2) / log(1024))),
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ROPES)
def test_rope(case: str) -> None:
    values, wanted = ROPES[case]
    assert read(**values) == wanted


@pytest.mark.parametrize(
    "values",
    [
        {"rope_scaling": [1]},
        {"rope_scaling": "linear"},
        {"rope_theta": 0},
        {"rope_theta": -1e4},
        {"rope_theta": "10000"},
        {"rope_theta": True},
        {"rope_theta": float("nan")},
        {"rope_theta": float("inf")},
        {"rope_theta": None},
        {"rope_parameters": {"rope_theta": []}},
    ],
    ids=str,
)
def test_a_rope_that_cannot_be(values: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=r"config\.json: 'rope_"):
        read(**values)


LISTS = {"short_factor": [1.0] * 32, "long_factor": [2] * 32}
# What transformers 4 and 5 read differently, and what nobody can compute.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "both layouts, which differ": (
        {
            "rope_scaling": {"rope_type": "linear", "factor": 3.0},
            "rope_parameters": {"rope_type": "default"},
        },
        "'rope_parameters' and 'rope_scaling' differ",
    ),
    "the original context beside YaRN": (
        {
            "rope_scaling": {"rope_type": "yarn", "factor": 2.0},
            "original_max_position_embeddings": 4096,
        },
        "transformers 4 takes 2048 for 'original_max_position_embeddings' .* 5 4096",
    ),
    "another one in the table": (
        {
            "rope_scaling": {"rope_type": "llama3", **LLAMA3},
            "original_max_position_embeddings": 4096,
        },
        "transformers 4 takes 8192 for 'original_max_position_embeddings' .* 5 4096",
    ),
    "LongRoPE's in the table alone": (
        {
            "rope_scaling": {
                "rope_type": "longrope", **LISTS, "original_max_position_embeddings": 1024,
            },
        },
        "transformers 4 takes 2048 for 'original_max_position_embeddings' .* 5 1024",
    ),
    "LongRoPE's factor beside two contexts": (
        {
            "rope_scaling": {"rope_type": "longrope", **LISTS, "factor": 4.0},
            "original_max_position_embeddings": 1024,
        },
        "transformers 4 takes 2 for 'factor' .* 5 4",
    ),
    "two names of the kind that differ": (
        {"rope_scaling": {"rope_type": "dynamic", "type": "linear", "factor": 3.0}},
        "the 'rope_type' 'dynamic' and the 'type' 'linear'",
    ),
    "a negative beta": (
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "beta_slow": -1}}, "'beta_slow' -1",
    ),
    "a base without a logarithm": (
        {"rope_theta": 1.0, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
        "'rope_theta' is 1",
    ),
    "an odd part of the head": ({"partial_rotary_factor": 0.2}, "rotates 3 of 16 numbers"),
    "nothing of the head": ({"partial_rotary_factor": 0.05}, "rotates 0 of 16 numbers"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_rotation_that_is_ambiguous_or_cannot_be(case: str) -> None:
    values, said = REFUSED[case]
    head_dim = 16 if "of the head" in case else 64
    with pytest.raises(BadInput, match=said):
        read(head_dim, **values)


def test_yarns_attention_factor_is_that_of_transformers() -> None:
    """The paper's, the ratio of the two scales where both are given, or one of its own."""
    assert yarn(factor=8.0).attention == pytest.approx(0.1 * log(8) + 1)
    assert yarn(factor=8.0, mscale=1.0, mscale_all_dim=1.0).attention == 1.0
    ratio = (0.1 * 0.7 * log(8) + 1) / (0.1 * log(8) + 1)
    assert yarn(factor=8.0, mscale=0.7, mscale_all_dim=1.0).attention == pytest.approx(ratio)
    assert yarn(factor=8.0, mscale=0.7).attention == pytest.approx(0.1 * log(8) + 1)
    assert yarn(factor=0.5).attention == 1.0
    assert yarn(factor=8.0, attention_factor=1.3, mscale=2.0, mscale_all_dim=1.0).attention == 1.3


@pytest.mark.parametrize("value", [0, -1.0])
def test_an_attention_factor_that_would_blank_the_rotation(value: float) -> None:
    with pytest.raises(BadInput, match="'attention_factor'"):
        yarn(factor=8.0, attention_factor=value)


def test_a_key_of_the_scaling_that_nobody_knows() -> None:
    with pytest.raises(BadInput, match=r"sets 'rope_scaling\.mrope_section' to \[16, 24, 24\]"):
        read(rope_scaling={"type": "default", "mrope_section": [16, 24, 24]})


@pytest.mark.parametrize(
    "values",
    [
        {"partial_rotary_factor": 0.5},
        {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
    ],
    ids=["beside", "inside"],
)
def test_a_family_that_rotates_whole_heads_refuses_a_part(values: dict[str, Any]) -> None:
    """transformers 4 fails, and 5 rotates whole heads all the same."""
    with pytest.raises(BadInput, match=r"partial_rotary_factor' to 0\.5"):
        describe(Config({**LLAMA, **values}, PATH))


def test_longrope_cannot_stretch_a_context_of_one_token() -> None:
    lists = {"short_factor": [1.0] * 32, "long_factor": [2.0] * 32}
    table = {"rope_type": "longrope", **lists, "factor": 4.0}
    with pytest.raises(BadInput, match="cannot stretch a context of one token"):
        read(rope_scaling=table, original_max_position_embeddings=1, max_position_embeddings=4)


@pytest.mark.parametrize("kind", ["apertus", "gpt_oss"])
def test_a_rotation_that_is_null_is_ambiguous_where_the_family_has_one(kind: str) -> None:
    values = {**LLAMA, "model_type": kind, "rope_scaling": None}
    with pytest.raises(BadInput, match="'rope_scaling' is null, which transformers 4 takes"):
        describe(Config(values, PATH))

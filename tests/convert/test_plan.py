"""The plan of a conversion: what it chooses, what it refuses, and what it says would fit."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pitool.catalog import boards
from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.catalog.tiers import Tier, tiers
from pitool.checkpoint.config import Config, read_config
from pitool.convert.plan import ConvertPlan, make_plan
from pitool.errors import BadInput, DoesNotFit, UsageError
from tests.planning.formats.test_gguf_memory import QWEN
from tests.planning.shapes import config


def plan(
    changes: dict[str, Any], tier: str, quants: str, context: int | None = None
) -> ConvertPlan:
    return make_plan(config(**changes), tier, tiers()[tier], quants, context)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"vision_config": {"depth": 1}}, "takes no pictures"),
        ({"vision_config": {"depth": 1}, "audio_config": {"x": 1}}, "no pictures or sound"),
        ({}, ""),
    ],
    ids=["pictures", "both", "text alone"],
)
def test_what_is_left_out_of_a_multimodal_model_is_said(other: dict[str, Any], said: str) -> None:
    text = config(head_dim=32, query_pre_attn_scalar=32).values
    whole = Config({"model_type": "gemma3", "text_config": text, **other}, Path("config.json"))
    reason = make_plan(whole, "8gb", tiers()["8gb"], "Q8_0", None).reason
    assert said in reason
    assert ("text model alone" in reason) is bool(said)


def tier_of(mib: int) -> Tier:
    """Return the 1gb tier with so many MiB for a model."""
    tier = tiers()["1gb"]
    return replace(tier, mem_total_mib=mib + tier.os_mib + tier.margin_mib)


def fits(settings_: Config, mib: int, quant: str, context: int) -> bool:
    try:
        make_plan(settings_, "1gb", tier_of(mib), quant, context)
    except DoesNotFit:
        return False
    return True


def test_what_was_asked_for_in_its_order_without_repetition() -> None:
    made = plan({}, "1gb", "Q8_0, f16,q8_0,", 512)
    assert [a.quantisation.name for a in made.artifacts] == ["Q8_0", "F16"]
    assert {a.context for a in made.artifacts} == {512}
    assert made.reason == ""


def test_figures_of_an_artifact() -> None:
    (artifact,) = plan({}, "1gb", "F16", 512).artifacts
    assert artifact.tensor_bytes == sum(t.bytes for t in artifact.tensors)
    assert artifact.bytes > artifact.tensor_bytes
    assert artifact.bits_per_weight == pytest.approx(16, abs=0.1)
    assert artifact.memory.lines[0].bytes == artifact.tensor_bytes
    assert artifact.speeds
    assert {s.board for s in artifact.speeds} <= set(boards.boards())


@pytest.mark.parametrize(
    ("asked", "planned"), [(None, 1024), (512, 512), (1024, 1024), (9999, 1024)]
)
def test_the_context_is_never_longer_than_trained(asked: int | None, planned: int) -> None:
    assert plan({}, "1gb", "F16", asked).artifacts[0].context == planned


def test_the_default_context_is_4096() -> None:
    assert plan(QWEN, "8gb", "Q8_0").artifacts[0].context == 4096


@pytest.mark.parametrize("quants", ["", " ", ",", " , "])
def test_no_name_at_all_is_refused(quants: str) -> None:
    with pytest.raises(UsageError, match="--quant is empty"):
        plan({}, "1gb", quants)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown quantisation 'Q4KM': did you mean 'Q4_K_M'"):
        plan({}, "1gb", "F16,Q4KM")


def test_a_model_that_cannot_be_described_is_refused_before_a_download() -> None:
    with pytest.raises(BadInput, match="rope scaling 'ntk' is not supported"):
        plan({"rope_scaling": {"type": "ntk", "factor": 2.0}}, "1gb", "F16")


# -- auto ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", tiers())
def test_auto_on_a_tiny_model_keeps_everything(tier: str) -> None:
    made = plan({}, tier, "auto", 512)
    assert [a.quantisation.name for a in made.artifacts] == ["F16"]
    assert made.reason.startswith("F16: the best quality that fits")


@pytest.mark.parametrize("name", ["Qwen2.5-0.5B-Instruct", "SmolLM2-1.7B-Instruct"])
def test_auto_never_takes_fewer_bits_on_a_larger_tier_of_the_same_boards(
    shared_data: Path, name: str
) -> None:
    settings_ = read_config(shared_data / "configs" / name)
    order = list(QUANTISATIONS)
    chosen = []
    for mib in range(300, 9000, 300):
        try:
            made = make_plan(settings_, "8gb", tier_of(mib), "auto", 2048)
        except DoesNotFit:
            continue
        chosen.append(order.index(made.artifacts[0].quantisation.name))
    assert chosen == sorted(chosen, reverse=True)
    assert chosen


@pytest.mark.thorough
@pytest.mark.parametrize("tier", tiers())
def test_what_auto_chooses_fits(shared_data: Path, tier: str) -> None:
    for folder in sorted((shared_data / "configs").iterdir()):
        try:
            made = make_plan(read_config(folder), tier, tiers()[tier], "auto", 2048)
        except (DoesNotFit, BadInput):
            continue
        assert made.artifacts[0].memory.total <= tiers()[tier].model_bytes
        assert made.reason.startswith(f"{made.artifacts[0].quantisation.name}: ")


# -- refusals ------------------------------------------------------------------------------


def test_the_refusal_has_the_numbers() -> None:
    with pytest.raises(DoesNotFit) as caught:
        make_plan(config(), "1gb", tier_of(64), "F16", 512)
    assert re.fullmatch(
        r"F16 with 512 tokens of context is tight: it needs 1?\d\d MB, and 1gb has 67 MB"
        r" for a model",
        caught.value.what,
    )
    assert caught.value.do == "--ram 512mb would fit"


def test_one_of_several_that_does_not_fit_refuses_all(shared_data: Path) -> None:
    settings_ = read_config(shared_data / "configs" / "SmolLM2-1.7B-Instruct")
    with pytest.raises(DoesNotFit, match=r"^F16 with"):
        make_plan(settings_, "2gb", tiers()["2gb"], "Q4_K_M,F16", 1024)


CONTEXT = re.compile(r"--context (\d+)")
QUANT = re.compile(r"--quant (\w+)")
RAM = re.compile(r"--ram (\w+)")


@settings(max_examples=60, deadline=None)
@given(
    mib=st.integers(100, 6000),
    quant=st.sampled_from(["auto", *QUANTISATIONS]),
    context=st.sampled_from([256, 512, 2048, 8192, 32768]),
    layers=st.sampled_from([2, 24]),
    tied=st.booleans(),
)
def test_what_a_refusal_proposes_is_not_refused(
    mib: int, quant: str, context: int, layers: int, tied: bool
) -> None:
    settings_ = config(**{**QWEN, "num_hidden_layers": layers, "tie_word_embeddings": tied})
    try:
        make_plan(settings_, "1gb", tier_of(mib), quant, context)
    except DoesNotFit as error:
        if match := CONTEXT.search(error.do):
            assert int(match[1]) >= 256
            assert fits(settings_, mib, quant, int(match[1]))
        if match := QUANT.search(error.do):
            assert fits(settings_, mib, match[1], context)
        if match := RAM.search(error.do):
            make_plan(settings_, match[1], tiers()[match[1]], quant, context)
        if "would fit" not in error.do:
            assert error.do == "choose a smaller model"


@pytest.mark.thorough
@settings(max_examples=60, deadline=None)
@given(
    mib=st.integers(100, 3000),
    quant=st.sampled_from(["auto", *QUANTISATIONS]),
    context=st.integers(256, 32768),
    more=st.integers(0, 20000),
    less=st.integers(0, 1000),
)
def test_more_context_or_less_ram_never_turns_a_refusal_into_a_fit(
    mib: int, quant: str, context: int, more: int, less: int
) -> None:
    settings_ = config(**QWEN)
    if not fits(settings_, mib, quant, context):
        assert not fits(settings_, mib, quant, context + more)
        assert not fits(settings_, max(mib - less, 1), quant, context)


LADDER = ["F32", "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K"]


@pytest.mark.thorough
@settings(max_examples=60, deadline=None)
@given(
    mib=st.integers(100, 3000), context=st.integers(256, 32768), step=st.integers(0, 6),
    hidden=st.sampled_from([1024, 2048]),
)  # fmt: skip
def test_more_bits_never_turn_a_refusal_into_a_fit(
    mib: int, context: int, step: int, hidden: int
) -> None:
    """For an untied model: a tied embedding is kept twice in the types that ggml repacks."""
    settings_ = config(**{**QWEN, "hidden_size": hidden, "num_attention_heads": 16,
                          "tie_word_embeddings": False})  # fmt: skip
    if not fits(settings_, mib, LADDER[step + 1], context):
        assert not fits(settings_, mib, LADDER[step], context)

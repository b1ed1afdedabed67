"""The memory plan: its sums by hand, and what must hold for any model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pitool.catalog.gguf import Header, StoredTensor
from pitool.catalog.model_shape import ModelShape
from pitool.catalog.tensor_types import QUANTISATIONS, TENSOR_TYPES, repacked_types
from pitool.planning.formats import GGUF
from pitool.planning.formats.base import PlannedModel
from pitool.planning.formats.gguf import GgufPlan
from pitool.planning.formats.gguf_memory import kv_cache_bytes, plan_memory
from pitool.planning.memory import Load
from pitool.planning.shapes import header_shape, header_tensors
from pitool.planning.type_mixture import assign_types
from pitool.report.numbers import format_bytes
from tests.planning.shapes import shape

NOTHING: frozenset[str] = frozenset()
DOTPROD = repacked_types(["dotprod"])

# Qwen2.5-0.5B: 24 layers, two key-value heads of 64.
QWEN: dict[str, Any] = {
    "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
    "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936,
    "max_position_embeddings": 32768, "tie_word_embeddings": True,
}  # fmt: skip


def lines(
    model: ModelShape, quant: str, load: Load, *, repacked: frozenset[str] = NOTHING
) -> dict[str, int]:
    typed = assign_types(model, QUANTISATIONS[quant])
    return {
        line.name: line.bytes for line in plan_memory(model, typed, load, repacked=repacked).lines
    }


def test_the_kv_cache_by_hand() -> None:
    model = shape(**QWEN)
    assert kv_cache_bytes(model, 4096, "f16") == 2 * 24 * 4096 * 128 * 2
    assert kv_cache_bytes(model, 4096, "q8_0") == 2 * 24 * 4096 * 128 * 34 // 32
    assert kv_cache_bytes(model, 4096, "q4_0") == 2 * 24 * 4096 * 128 * 18 // 32
    half = 24 * 4096 * 128
    assert kv_cache_bytes(model, 4096, "q8_0", "q5_1") == half * 34 // 32 + half * 24 // 32
    assert kv_cache_bytes(model, 1, "f16") == kv_cache_bytes(model, 256, "f16")
    assert kv_cache_bytes(model, 257, "f16") == kv_cache_bytes(model, 512, "f16")


def test_a_recurrent_state_is_held_whatever_the_context() -> None:
    """As of Qwen3.5 and Mamba: a number of ``state_size`` for each channel of a layer, in F32."""
    mixers = tuple(
        StoredTensor(f"blk.{i}.ssm_out.weight", (896, 2048), TENSOR_TYPES["F16"]) for i in (0, 2)
    )
    embedding = StoredTensor("token_embd.weight", (1000, 896), TENSOR_TYPES["F16"])
    keys = {
        "block_count": 4, "embedding_length": 896, "attention.head_count": 14,
        "attention.head_count_kv": 2,
    }  # fmt: skip
    metadata: dict[str, object] = {f"qwen35.{key}": value for key, value in keys.items()}
    metadata |= {"general.architecture": "qwen35", "qwen35.ssm.state_size": 128}
    header = Header(Path("a.gguf"), metadata, (embedding, *mixers))
    model, typed = header_shape(header), header_tensors(header)
    for context in (512, 2048):
        plan = plan_memory(model, typed, Load(context), repacked=NOTHING)
        held = {line.name: line.bytes for line in plan.lines}
        assert held["recurrent state"] == 2 * 2048 * 128 * 4
        assert held["KV cache"] == 2 * 2 * context * 128 * 2  # of the two layers without it
        assert held["state checkpoints"] == 8 * held["recurrent state"]
    four = plan_memory(model, typed, Load(512, sequences=4), repacked=NOTHING)
    held = {line.name: line.bytes for line in four.lines}
    assert held["recurrent state"] == 4 * 2 * 2048 * 128 * 4
    assert held["KV cache"] == 2 * 2 * 2048 * 128 * 2
    assert "recurrent state" not in lines(shape(**QWEN), "F16", Load(512))


def test_layers_that_borrow_keys_keep_none_and_windows_may_have_smaller_heads() -> None:
    """As of Gemma 4: two kinds of heads, and the last two layers of six take keys from others."""
    embedding = StoredTensor("token_embd.weight", (1000, 896), TENSOR_TYPES["F16"])
    keys: dict[str, object] = {
        "block_count": 6, "embedding_length": 896, "attention.head_count": 8,
        "attention.head_count_kv": 2, "attention.key_length": 512, "attention.key_length_swa": 256,
        "attention.shared_kv_layers": 2,
        "attention.sliding_window_pattern": [True, True, False, True, True, False],
    }  # fmt: skip
    metadata = {f"gemma4.{key}": value for key, value in keys.items()}
    header = Header(Path("a.gguf"), {**metadata, "general.architecture": "gemma4"}, (embedding,))
    model = header_shape(header)
    assert [row for _, row in model.layer_caches()] == [512, 512, 1024, 512, 0, 0]
    assert kv_cache_bytes(model, 1024, "f16") == 2 * 1024 * (3 * 512 + 1024) * 2


def test_weights_are_what_the_types_say() -> None:
    model = shape(**QWEN)
    assert lines(model, "F16", Load(512))["weights"] == sum(
        t.weights * (2 if len(t.shape) == 2 else 4) for t in model.tensors
    )


def test_a_tied_embedding_is_kept_twice_where_kernels_repack() -> None:
    model = shape(**QWEN)
    embedding = 151936 * 896 * 34 // 32
    assert lines(model, "Q8_0", Load(512), repacked=DOTPROD)["repacked copies"] == embedding
    assert "repacked copies" not in lines(model, "Q8_0", Load(512), repacked=NOTHING)
    assert "repacked copies" not in lines(model, "Q8_0", Load(512, repack=False), repacked=DOTPROD)
    assert "repacked copies" not in lines(model, "F16", Load(512), repacked=DOTPROD)
    untied = shape(**{**QWEN, "tie_word_embeddings": False})
    assert "repacked copies" not in lines(untied, "Q8_0", Load(512), repacked=DOTPROD)


def test_a_mapped_file_is_kept_twice_but_for_the_rows() -> None:
    untied = shape(**{**QWEN, "tie_word_embeddings": False})
    matrices = [t for t in untied.tensors if len(t.shape) == 2 and t.name != "token_embd.weight"]
    copies = lines(untied, "Q8_0", Load(512, mapped=True), repacked=DOTPROD)["repacked copies"]
    assert copies == sum(t.weights for t in matrices) * 34 // 32


def test_logits_grow_with_the_outputs() -> None:
    model = shape(**QWEN)
    one, many = (lines(model, "F16", Load(512, outputs=n))["compute buffers"] for n in (1, 128))
    assert many - one >= 127 * 151936 * 4


quants = st.sampled_from([q for q in QUANTISATIONS if q != "F32"])
loads = st.builds(
    Load,
    context=st.integers(256, 200_000),
    kv_type=st.sampled_from(["f16", "q8_0", "q4_0"]),
    mapped=st.booleans(),
    repack=st.booleans(),
)
repacks = st.sampled_from([NOTHING, DOTPROD])
models = st.builds(
    shape,
    num_hidden_layers=st.integers(1, 40),
    hidden_size=st.sampled_from([256, 576, 1024]),
    num_attention_heads=st.just(8),
    num_key_value_heads=st.sampled_from([1, 2, 4, 8]),
    tie_word_embeddings=st.booleans(),
    max_position_embeddings=st.sampled_from([100, 512, 8192, 131072]),
)


@given(model=models, quant=quants, load=loads, repacked=repacks)
def test_the_sum_is_that_of_its_lines(
    model: ModelShape, quant: str, load: Load, repacked: frozenset[str]
) -> None:
    plan = plan_memory(model, assign_types(model, QUANTISATIONS[quant]), load, repacked=repacked)
    assert plan.total == sum(line.bytes for line in plan.lines)
    assert all(line.bytes > 0 for line in plan.lines)
    assert len({line.name for line in plan.lines}) == len(plan.lines)


@given(model=models, quant=quants, load=loads, repacked=repacks, more=st.integers(0, 100_000))
def test_more_context_never_needs_less(
    model: ModelShape, quant: str, load: Load, repacked: frozenset[str], more: int
) -> None:
    typed = assign_types(model, QUANTISATIONS[quant])
    longer = replace(load, context=load.context + more)
    small, large = (plan_memory(model, typed, x, repacked=repacked).total for x in (load, longer))
    assert small <= large


@given(
    model=models,
    pair=st.sampled_from(
        [("F16", "Q8_0"), ("Q8_0", "Q6_K"), ("Q6_K", "Q5_K_M"), ("Q5_K_M", "Q4_K_M"),
         ("Q4_K_M", "Q3_K_M"), ("Q3_K_M", "Q2_K")]
    ),
    load=loads,
)  # fmt: skip
def test_more_bits_never_need_less(model: ModelShape, pair: tuple[str, str], load: Load) -> None:
    more, fewer = (
        plan_memory(model, assign_types(model, QUANTISATIONS[q]), load, repacked=NOTHING).total
        for q in pair
    )
    assert more >= fewer


@given(model=models, quant=quants, load=loads, share=st.floats(0.5, 3), repacked=repacks)
def test_the_longest_context_fits_and_the_next_does_not(
    model: ModelShape, quant: str, load: Load, share: float, repacked: frozenset[str]
) -> None:
    typed = assign_types(model, QUANTISATIONS[quant])

    def need(context: int) -> int:
        return plan_memory(model, typed, replace(load, context=context), repacked=repacked).total

    budget = int(need(4096) * share)
    memory = plan_memory(model, typed, load, repacked=repacked)
    plan = GgufPlan(QUANTISATIONS[quant], load, typed, model.parameters, memory)
    context = GGUF.longest_context(PlannedModel("", model), plan, budget)
    assert context % 256 == 0
    assert 0 <= context <= model.context
    if context:
        assert need(context) <= budget
    if context + 256 <= model.context:
        assert need(context + 256) > budget


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (9_990, "9.99 kB"), (12_345, "12 kB"),
        (491_400_032, "491 MB"), (2_019_377_696, "2.02 GB"), (10_000_000_000, "10 GB"),
        (9_999, "10 kB"), (999_999, "1.00 MB"), (999_999_999, "1.00 GB"), (-5_000_000, "-5.00 MB"),
    ],
)  # fmt: skip
def test_format_bytes(count: int, text: str) -> None:
    assert format_bytes(count) == text

"""The plan of an ONNX artifact: by hand, against what a worker was seen to hold, and orders."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pitool.catalog.model_shape import ModelShape
from pitool.planning.formats.onnx import onnx_cache_bytes, plan_onnx
from pitool.planning.memory import CHAT_BYTES, Load
from pitool.planning.onnx_weights import ONNX_QUANTISATIONS
from pitool.planning.shapes import typical_shape
from tests.planning.shapes import shape

SMOLLM2_135M = shape(
    hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
    num_key_value_heads=3, vocab_size=49152, max_position_embeddings=8192,
    tie_word_embeddings=True,
)  # fmt: skip


def test_the_cache_by_hand() -> None:
    kinds = ONNX_QUANTISATIONS
    assert onnx_cache_bytes(SMOLLM2_135M, kinds["INT4"], 2048) == 2 * 30 * 2048 * 3 * 64 * 4
    assert onnx_cache_bytes(SMOLLM2_135M, kinds["FP16"], 2048) == 2 * 30 * 2048 * 3 * 64 * 2


LLAMA_1B = shape(
    hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
    num_key_value_heads=8, vocab_size=128256, max_position_embeddings=32768,
    tie_word_embeddings=True,
)  # fmt: skip


# VmHWM in MB of a worker on x86_64 with onnxruntime, the context filled.
@pytest.mark.parametrize(
    ("model", "kind", "context", "measured"),
    [
        (SMOLLM2_135M, "INT8", 512, 346.4),
        (SMOLLM2_135M, "INT8", 4096, 522.0),
        (SMOLLM2_135M, "INT4", 512, 267.8),
        (SMOLLM2_135M, "INT4", 2048, 343.1),
        (SMOLLM2_135M, "INT4", 4096, 437.5),
        (SMOLLM2_135M, "INT8_DYNAMIC", 512, 296.3),
        (SMOLLM2_135M, "INT8_DYNAMIC", 2048, 372.3),
        (SMOLLM2_135M, "FP32", 2048, 854.4),
        (LLAMA_1B, "INT8", 512, 2116.6),
        (LLAMA_1B, "INT8", 2048, 2306.9),
        (LLAMA_1B, "INT4", 512, 1409.1),
        (LLAMA_1B, "INT4", 2048, 1562.0),
    ],
)
def test_the_sum_is_near_what_was_measured(
    model: ModelShape, kind: str, context: int, measured: float
) -> None:
    plan = plan_onnx(model, ONNX_QUANTISATIONS[kind], Load(context))
    assert (plan.total - CHAT_BYTES) / 1e6 == pytest.approx(measured, rel=0.05)


sizes = st.sampled_from([typical_shape(n) for n in (1e8, 5e8, 3e9, 7e9)])


@given(
    sizes, st.sampled_from(list(ONNX_QUANTISATIONS)), st.integers(1, 30000), st.integers(0, 9999)
)
def test_sums_are_those_of_their_lines_and_grow_with_the_context(
    model: ModelShape, kind: str, context: int, more: int
) -> None:
    small, large = (
        plan_onnx(model, ONNX_QUANTISATIONS[kind], Load(n)) for n in (context, context + more)
    )
    assert small.total == sum(line.bytes for line in small.lines)
    assert all(line.bytes > 0 for line in small.lines)
    assert small.total <= large.total


@given(sizes, st.integers(1, 30000))
def test_more_bits_never_need_less(model: ModelShape, context: int) -> None:
    totals = [
        plan_onnx(model, ONNX_QUANTISATIONS[kind], Load(context)).total
        for kind in ("INT4", "INT4_HEAD8", "INT8", "FP32")
    ]
    assert totals == sorted(totals)

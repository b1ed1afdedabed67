"""The time of a token of a prompt: by hand on a made-up board, a term at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pitool.catalog.boards import boards
from pitool.catalog.model_shape import ModelShape, TensorShape
from pitool.catalog.tensor_types import TENSOR_TYPES
from pitool.planning.prefill import (
    attention_seconds,
    count_alike,
    overhead_seconds,
    prefill_seconds,
    product_seconds,
)
from pitool.planning.type_mixture import TypedTensor

# 2e12 operations a second at cost 1, 10e9 bytes a second.
BOARD = replace(boards()["pi5"], prefill_gflops=2000.0, bandwidth_gbs=10.0, cache_mib=1.0)
COSTS = BOARD.costs
FAST = frozenset({"Q4_0", "Q4_K"})


def model(*tensors: TensorShape, windows: tuple[int, ...] = (), experts: int = 0) -> ModelShape:
    return ModelShape(
        "llama", 1, 1024, 1024, 8, 8, 128, 1000, 4096, tensors, windows,
        experts=experts, experts_used=min(experts, 2),
    )  # fmt: skip


def matrix(name: str, kind: str, *shape: int) -> TypedTensor:
    return TypedTensor(TensorShape(name, shape), TENSOR_TYPES[kind])


def test_a_product_is_two_operations_a_weight_over_the_rate_of_its_type() -> None:
    gate = matrix("blk.0.ffn_gate.weight", "Q4_K", 1000, 1024)
    operations = 2 * 1000 * 1024
    fast, plain = product_seconds(BOARD, gate, FAST), product_seconds(BOARD, gate, frozenset())
    assert fast == pytest.approx(operations * COSTS.interleaved["Q4_K"] / 2e12)
    assert plain == pytest.approx(operations * COSTS.plain["Q4_K"] / 2e12)
    unknown = matrix("blk.0.ffn_gate.weight", "IQ1_S", 1000, 1024)
    assert product_seconds(BOARD, unknown, FAST) == pytest.approx(operations * COSTS.unknown / 2e12)
    assert product_seconds(BOARD, matrix("blk.0.attn_norm.weight", "F32", 1024), FAST) == 0


def test_a_matrix_that_the_caches_cannot_hold_is_read_for_every_four_tokens() -> None:
    """Four threads have a sixteenth of it each: 4 MiB at 1 MiB of caches."""
    wide = matrix("blk.0.ffn_gate.weight", "Q4_0", 8192, 1024)
    held, read = (replace(BOARD, cache_mib=mib, prefill_gflops=1e9) for mib in (1.2, 1.1))
    shape = model(wide.tensor)
    rest = overhead_seconds(read, shape, [(wide, 1)])
    assert prefill_seconds(held, shape, [(wide, 1)], FAST) == pytest.approx(rest, rel=1e-3)
    taken = prefill_seconds(read, shape, [(wide, 1)], FAST) - rest
    assert taken == pytest.approx(8192 * 1024 / 32 * 18 / 4 / 10e9)
    assert prefill_seconds(read, shape, [(wide, 1)], frozenset()) == pytest.approx(rest, rel=1e-3)


def test_experts_are_multiplied_by_the_plain_kernel_and_only_those_used() -> None:
    experts = matrix("blk.0.ffn_up_exps.weight", "Q4_0", 8, 512, 1024)
    shape = model(experts.tensor, experts=8)
    products = 2 * 2 * 512 * 1024 * COSTS.plain["Q4_0"] / 2e12
    activations = 2 * (5 * 1024 + 16 * 512) / 10e9
    assert prefill_seconds(BOARD, shape, [(experts, 1)], FAST) == pytest.approx(
        products + activations
    )


@pytest.mark.parametrize(("window", "keys"), [(0, 256), (4096, 256), (512, 256), (128, 112)])
def test_a_token_attends_to_half_of_the_prompt_or_to_its_window(window: int, keys: int) -> None:
    """Of 512 tokens: the 128 before it, but fewer for the first 128, 112 on average."""
    out = matrix("blk.0.attn_output.weight", "Q4_0", 1024, 2048)
    shape = model(out.tensor, windows=(window,))
    expected = 4 * 2048 * keys * COSTS.attention / 2e12
    assert attention_seconds(BOARD, shape, [(out, 1)]) == pytest.approx(expected)
    other = matrix("blk.0.shortconv.out_proj.weight", "Q4_0", 1024, 2048)
    assert attention_seconds(BOARD, shape, [(other, 1)]) == 0


@pytest.mark.parametrize(("window", "keys"), [(0, 10_000), (512, 505.4464)])
def test_a_longer_prompt_has_more_to_attend_to(window: int, keys: float) -> None:
    """Of 20,000 tokens half, or nearly the whole window."""
    out = matrix("blk.0.attn_output.weight", "Q4_0", 1024, 2048)
    shape = model(out.tensor, windows=(window,))
    expected = 4 * 2048 * keys * COSTS.attention / 2e12
    assert attention_seconds(BOARD, shape, [(out, 1)], 20_000) == pytest.approx(expected)
    more = prefill_seconds(BOARD, shape, [(out, 1)], FAST, 20_000)
    less = prefill_seconds(BOARD, shape, [(out, 1)], FAST)
    usual = attention_seconds(BOARD, shape, [(out, 1)])
    assert more - less == pytest.approx(expected - usual)


def test_embedding_and_head_are_left_out() -> None:
    gate = matrix("blk.0.ffn_gate.weight", "Q4_0", 1024, 1024)
    ends = [matrix(f"{name}.weight", "Q8_0", 50000, 1024) for name in ("token_embd", "output")]
    shape = model(*(t.tensor for t in (gate, *ends)))
    alone, whole = (
        prefill_seconds(BOARD, shape, [(each, 1) for each in part], FAST)
        for part in ([gate], [gate, *ends])
    )
    assert alone == whole > 0


def test_layers_that_are_alike_are_counted_once() -> None:
    """Not those of another type, another size or another window."""
    gates = [
        matrix("blk.0.ffn_gate.weight", "Q4_0", 1024, 1024),
        matrix("blk.1.ffn_gate.weight", "Q4_0", 1024, 1024),
        matrix("blk.2.ffn_gate.weight", "Q6_K", 1024, 1024),
        matrix("blk.3.ffn_gate.weight", "Q4_0", 512, 1024),
        matrix("blk.4.ffn_gate.weight", "Q4_0", 1024, 1024),
    ]
    shape = replace(model(*(t.tensor for t in gates), windows=(0, 0, 0, 0, 128)), layers=5)
    assert count_alike(shape, gates) == [(gates[0], 2), *((gates[i], 1) for i in (2, 3, 4))]

"""The prediction of speeds: by hand on a made-up board, and what must hold for any model."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pitool.catalog.boards import Board, boards
from pitool.catalog.model_shape import ModelShape
from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.planning.formats.gguf import estimate
from pitool.planning.type_mixture import assign_types
from tests.planning.shapes import shape

PI5 = next(board for board in boards().values() if board.dotprod)
PI4 = next(board for board in boards().values() if not board.dotprod)


def decode(board: Board, model: ModelShape, quant: str) -> float:
    return estimate("b", board, model, assign_types(model, QUANTISATIONS[quant])).speed.decode


def test_a_decode_bound_by_memory_is_bandwidth_over_bytes() -> None:
    model = shape(num_hidden_layers=20, hidden_size=1024, intermediate_size=4096)
    rates = replace(PI5.prefill_gflops, half=1e6)
    board = replace(PI5, bandwidth_gbs=10.0, prefill_gflops=rates)
    typed = assign_types(model, QUANTISATIONS["F16"])
    assert decode(board, model, "F16") == round(10e9 / sum(t.bytes for t in typed), 1)


def test_an_untied_embedding_is_not_streamed() -> None:
    model = shape(tie_word_embeddings=False, vocab_size=100_000, num_hidden_layers=1)
    rates = replace(PI5.prefill_gflops, half=1e6)
    board = replace(PI5, bandwidth_gbs=10.0, prefill_gflops=rates)
    typed = assign_types(model, QUANTISATIONS["F16"])
    streamed = sum(t.bytes for t in typed if t.tensor.name != "token_embd.weight")
    assert decode(board, model, "F16") == round(10e9 / streamed, 1)


def test_a_prefill_is_bound_by_the_products_of_the_body() -> None:
    model = shape(num_hidden_layers=20, hidden_size=1024, intermediate_size=4096)
    board = replace(PI5, prefill_gflops=replace(PI5.prefill_gflops, half=100.0))
    body = sum(t.weights for t in model.tensors if t.name != "token_embd.weight")
    speed = estimate("b", board, model, assign_types(model, QUANTISATIONS["F16"])).speed
    assert speed.prefill == round(100e9 / (2 * body), 1)
    assert speed.board == "b"


@pytest.mark.parametrize("board", boards().values(), ids=boards().keys())
@given(layers=st.integers(1, 30), quant=st.sampled_from([q for q in QUANTISATIONS if q != "F32"]))
def test_more_layers_are_never_faster(board: Board, layers: int, quant: str) -> None:
    small, large = (shape(num_hidden_layers=n) for n in (layers, layers + 1))
    assert decode(board, small, quant) >= decode(board, large, quant) > 0


@pytest.mark.parametrize("board", boards().values(), ids=boards().keys())
def test_prefill_is_faster_than_decode(board: Board) -> None:
    model = shape(num_hidden_layers=24, hidden_size=2048, intermediate_size=8192)
    for quant in ("F16", "Q8_0", "Q4_K_M", "Q4_0"):
        speed = estimate("b", board, model, assign_types(model, QUANTISATIONS[quant])).speed
        assert speed.prefill >= speed.decode > 0


def test_repacked_kernels_are_used_only_where_the_cpu_has_them() -> None:
    model = shape(num_hidden_layers=24, hidden_size=2048, intermediate_size=8192)
    typed = assign_types(model, QUANTISATIONS["Q4_0"])
    slow = estimate("b", replace(PI5, features=PI4.features), model, typed).speed
    assert slow.prefill < estimate("b", PI5, model, typed).speed.prefill

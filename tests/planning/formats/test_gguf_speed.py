"""The prediction of speeds: by hand on a made-up board, and what must hold for any model."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pitool.catalog.boards import Board, boards
from pitool.catalog.model_shape import ModelShape, TensorShape
from pitool.catalog.tensor_types import QUANTISATIONS, TENSOR_TYPES
from pitool.planning.formats import GGUF
from pitool.planning.formats.base import PlannedModel
from pitool.planning.formats.gguf_speed import estimate
from pitool.planning.memory import Load
from pitool.planning.places import Place
from pitool.planning.speed import NONE
from pitool.planning.type_mixture import TypedTensor, assign_types
from tests.planning.shapes import shape

PI5 = next(board for board in boards().values() if board.dotprod)
PI4 = next(board for board in boards().values() if not board.dotprod)
FAST = replace(PI5, bandwidth_gbs=10.0, prefill_gflops=1e6)


def decode(board: Board, model: ModelShape, quant: str) -> float:
    return estimate("b", board, model, assign_types(model, QUANTISATIONS[quant])).speed.decode


def test_a_decode_bound_by_memory_is_bandwidth_over_bytes() -> None:
    model = shape(num_hidden_layers=20, hidden_size=1024, intermediate_size=4096)
    typed = assign_types(model, QUANTISATIONS["F16"])
    assert decode(FAST, model, "F16") == round(10e9 / sum(t.bytes for t in typed), 1)


def test_an_untied_embedding_is_not_streamed() -> None:
    model = shape(tie_word_embeddings=False, vocab_size=100_000, num_hidden_layers=1)
    typed = assign_types(model, QUANTISATIONS["F16"])
    streamed = sum(t.bytes for t in typed if t.tensor.name != "token_embd.weight")
    assert decode(FAST, model, "F16") == round(10e9 / streamed, 1)


def test_tables_of_which_a_token_needs_one_row_are_not_streamed() -> None:
    """Gemma's embeddings of each layer are most of a file, and next to nothing of a decode."""
    plain = shape(num_hidden_layers=2)
    typed = assign_types(plain, QUANTISATIONS["F16"])
    for name in ("per_layer_token_embd.weight", "position_embd.weight"):
        table = TypedTensor(TensorShape(name, (100_000, 512)), TENSOR_TYPES["F16"])
        model = replace(plain, tensors=(*plain.tensors, table.tensor))
        with_table = estimate("b", PI5, model, (*typed, table))
        assert with_table == estimate("b", PI5, plain, typed)


@pytest.mark.thorough
@pytest.mark.parametrize("board", boards().values(), ids=boards().keys())
@given(layers=st.integers(1, 30), quant=st.sampled_from([q for q in QUANTISATIONS if q != "F32"]))
def test_more_layers_are_never_faster(board: Board, layers: int, quant: str) -> None:
    small, large = (shape(num_hidden_layers=n) for n in (layers, layers + 1))
    assert decode(board, small, quant) >= decode(board, large, quant) > 0


@pytest.mark.parametrize("board", boards().values(), ids=boards().keys())
def test_prefill_is_faster_than_decode(board: Board) -> None:
    """But for attention to the prompt, where arithmetic limits both."""
    model = shape(num_hidden_layers=24, hidden_size=2048, intermediate_size=8192)
    for quant in ("F16", "Q8_0", "Q4_K_M", "Q4_0"):
        found = estimate("b", board, model, assign_types(model, QUANTISATIONS[quant]))
        assert found.prefill > 0.8 * found.decode > 0


def test_a_cpu_that_shows_no_dot_product_has_the_plain_kernels() -> None:
    model = shape(num_hidden_layers=24, hidden_size=2048, intermediate_size=8192)
    typed = assign_types(model, QUANTISATIONS["Q4_0"])
    slow = estimate("b", replace(PI5, features=PI4.features), model, typed)
    assert slow.prefill < estimate("b", PI5, model, typed).prefill
    assert slow.prefill == estimate("b", PI5, model, typed, interleaved=frozenset()).prefill


def test_a_load_that_does_not_repack_is_planned_with_plain_kernels() -> None:
    model = PlannedModel("", shape(num_hidden_layers=8, hidden_size=1024, intermediate_size=4096))
    place, kind = Place("", "", 0, 0, {"pi5": PI5}), QUANTISATIONS["Q4_0"]
    (fast,) = GGUF.artifact(model, kind, place, Load(512), NONE).estimates
    (plain,) = GGUF.artifact(model, kind, place, Load(512, repack=False), NONE).estimates
    assert 2 < fast.prefill / plain.prefill < 4
    assert fast.decode == plain.decode

"""The time of a token: by hand for one matrix, and as the sum that a plan's speed is made of."""

from __future__ import annotations

import pytest

from pitool.catalog.boards import find_board
from pitool.catalog.model_shape import TensorShape
from pitool.catalog.tensor_types import QUANTISATIONS, TENSOR_TYPES
from pitool.planning.decode import DecodeSeconds, decode_seconds, tensor_seconds
from pitool.planning.formats.gguf_speed import estimate
from pitool.planning.prefill import count_alike
from pitool.planning.shapes import typical_shape
from pitool.planning.type_mixture import TypedTensor, assign_types

MODEL = typical_shape(1e9)


def test_a_matrix_takes_its_bytes_and_its_products() -> None:
    """A Pi 5: 11.8 GB/s; 328 GFLOPS at cost 1, Q4_K 1.56 interleaved and 3.0 plain."""
    matrix = TypedTensor(TensorShape("blk.0.ffn_up.weight", (4096, 1024)), TENSOR_TYPES["Q4_K"])
    board, bandwidth = find_board("pi5"), 11.8e9
    took = tensor_seconds(board, MODEL, matrix, board.repacked, bandwidth)
    weights = 4096 * 1024
    assert took.reading == pytest.approx(weights * 4.5 / 8 / 11.8e9)
    assert took.products == pytest.approx(2 * weights * 1.56 / 328e9)
    plain = tensor_seconds(board, MODEL, matrix, frozenset(), bandwidth)
    assert plain.products == pytest.approx(2 * weights * 3.0 / 328e9)
    assert took.total == took.reading


@pytest.mark.parametrize("key", ["pi5", "pi4b", "zero2w"])
@pytest.mark.parametrize("name", ["Q8_0", "Q4_K_M", "Q3_K_M"])
def test_the_sum_is_the_decode_of_a_plan(key: str, name: str) -> None:
    board = find_board(key)
    tensors = assign_types(MODEL, QUANTISATIONS[name])
    bandwidth = board.bandwidth_gbs * 1e9
    alike = count_alike(MODEL, tensors)
    took = decode_seconds(board, MODEL, alike, board.repacked, bandwidth)
    one_by_one = sum(
        (tensor_seconds(board, MODEL, t, board.repacked, bandwidth) for t in tensors),
        DecodeSeconds(0.0, 0.0),
    )
    assert took.reading == pytest.approx(one_by_one.reading)
    assert took.products == pytest.approx(one_by_one.products)
    assert 1 / took.total == pytest.approx(estimate(key, board, MODEL, tensors).decode)

"""Blocks against onnxruntime's own quantizer and against its kernels."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi import _pybind_state

from pitool.convert.lattice import rounded
from pitool.convert.onnx.blocks import quantise_blocks, quantise_rows

RNG = np.random.default_rng(3)


def weights(rows: int = 24, columns: int = 128) -> NDArray[np.float32]:
    made = RNG.normal(0, 1, (rows, columns)).astype(np.float32)
    made[2, :32] = 0  # a block without a scale
    made[3, :32] = 7.5  # all equal
    made[4, 32:64] = np.abs(made[4, 32:64])
    made[5, :32] *= np.float32(1e-40)  # the scale has no inverse
    return made


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block", [16, 32, 64])
@pytest.mark.parametrize("asymmetric", [False, True])
def test_blocks_are_those_of_onnxruntime(bits: int, block: int, asymmetric: bool) -> None:
    rows = weights()[:5]
    count, columns = rows.shape
    blocks = columns // block
    levels = np.zeros((count, blocks, block * bits // 8), np.uint8)
    scales = np.zeros(count * blocks, np.float32)
    zeros = np.zeros((count, -(-blocks * bits // 8)), np.uint8)
    quantize = getattr(_pybind_state, f"quantize_matmul_{bits}bits")
    quantize(levels, rows.T.copy(), scales, zeros, block, count, columns, not asymmetric)
    made = quantise_blocks(rows, bits, block, asymmetric=asymmetric)
    np.testing.assert_allclose(made.scales.reshape(-1), scales, rtol=1e-6)
    assert np.mean(made.weights != levels) < 0.005  # ties, and the last bit of a scale
    if asymmetric:
        assert made.zero_points is not None
        np.testing.assert_array_equal(made.zero_points, zeros)
    else:
        assert made.zero_points is None


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("columns", [128, 80])
def test_the_kernel_reads_blocks_as_they_are_meant(bits: int, columns: int) -> None:
    rows = weights(columns=128)[:, :columns]
    made = quantise_blocks(rows, bits, 32, asymmetric=False)
    names = [numpy_helper.from_array(made.weights, "b"), numpy_helper.from_array(made.scales, "s")]
    node = helper.make_node(
        "MatMulNBits", ["a", "b", "s"], ["y"], domain="com.microsoft", N=len(rows), K=columns,
        bits=bits, block_size=32,
    )  # fmt: skip
    real = TensorProto.FLOAT
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("a", real, [columns, columns])],
        [helper.make_tensor_value_info("y", real, [columns, len(rows)])],
        names,
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"a": np.eye(columns, dtype=np.float32)})
    step = np.repeat(np.abs(made.scales), 32, axis=1)[:, :columns]
    assert np.all(np.abs(found.T - rows) <= step * 1.01 + 1e-30)
    assert np.abs(found.T - rows).max() > 0


@pytest.mark.parametrize("stored", ["F32", "BF16"])
def test_weights_on_a_grid_are_kept(stored: str) -> None:
    """By their levels and scales; onnxruntime's own quantizer misses most of them."""
    rng = np.random.default_rng(4)
    counts = rng.integers(-7, 8, (24, 4, 32))
    steps = rng.uniform(0.01, 0.02, (24, 4, 1)).astype(np.float16).astype(np.float32)
    rows = rounded((counts * steps).astype(np.float32).reshape(24, 128), stored)
    made = quantise_blocks(rows, 4, 32, asymmetric=False)
    low, high = (made.weights & 15).astype(np.float32), (made.weights >> 4).astype(np.float32)
    levels = np.stack([low, high], -1).reshape(24, 4, 32) - 8
    back = (levels * made.scales[..., None]).reshape(rows.shape)
    assert np.array_equal(rounded(back, stored), rows)
    plain = np.zeros((24, 4, 16), np.uint8)
    scales, zeros = np.zeros(96, np.float32), np.zeros((24, 2), np.uint8)
    _pybind_state.quantize_matmul_4bits(plain, rows.T.copy(), scales, zeros, 32, 24, 128, True)
    assert (plain != made.weights).mean() > 0.1


def test_rows_keep_their_largest_weight() -> None:
    rows = weights()
    rows[7] = 0
    levels, scales = quantise_rows(rows)
    assert levels.min() >= -127
    np.testing.assert_allclose(levels * scales[:, None], rows, atol=float(scales.max()) * 0.501)
    np.testing.assert_array_equal(np.abs(levels).max(1)[[0, 1, 2]], 127)
    np.testing.assert_array_equal(levels[7], 0)

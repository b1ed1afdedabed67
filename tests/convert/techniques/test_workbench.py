"""The walk over layers against the whole forward pass, and a grid against sums by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pitool.convert.numpy_forward import Forward, reference_logits
from pitool.convert.techniques.rounding import IntegerMatrix
from pitool.convert.techniques.workbench import Layer, Workbench
from pitool.errors import BadInput
from tests.convert.helpers import checkpoint_of
from tests.tiny import write_checkpoint

WINDOWS = ((5, 9, 2, 77, 3), (8, 1, 30))


def bench_of(tmp_path: Path, windows: tuple[tuple[int, ...], ...] = WINDOWS) -> Workbench:
    checkpoint = checkpoint_of(write_checkpoint(tmp_path / "c", num_hidden_layers=2))
    return Workbench(checkpoint, tmp_path, windows)


def test_a_walk_that_replaces_nothing_ends_at_the_checkpoints_logits(tmp_path: Path) -> None:
    bench = bench_of(tmp_path)
    outputs = [layer.outputs() for layer in bench.walk()]
    logits = Forward(bench.checkpoint).logits(outputs[-1][0])
    np.testing.assert_array_equal(logits, reference_logits(bench.checkpoint, WINDOWS[0]))


def first_inputs(layer: Layer, seen: dict[str, NDArray[np.float32]]) -> None:
    layer.run(lambda name, x: seen.setdefault(name, x))


def test_the_next_layer_sees_what_was_replaced(tmp_path: Path) -> None:
    """A layer whose blocks give nothing hands its input on."""
    bench = bench_of(tmp_path)
    first: dict[str, NDArray[np.float32]] = {}
    second: dict[str, NDArray[np.float32]] = {}
    for layer in bench.walk():
        first_inputs(layer, first if layer.index == 0 else second)
        for name in ("self_attn.o_proj.weight", "mlp.down_proj.weight"):
            layer.replace(name, np.zeros_like(layer.weights[name]))
    hidden = Forward(bench.checkpoint).embed(WINDOWS[0])
    root = np.sqrt((hidden**2).mean(-1, keepdims=True) + 1e-5)
    weight = bench.read("model.layers.1.input_layernorm.weight")
    np.testing.assert_allclose(second["self_attn.q_proj"], hidden / root * weight, rtol=1e-5)


def test_hessians_are_the_sums_over_all_windows(tmp_path: Path) -> None:
    layer = next(bench_of(tmp_path).walk())
    inputs: dict[str, list[NDArray[np.float32]]] = {}
    layer.run(lambda name, x: inputs.setdefault(name, []).append(x))
    hessians, magnitudes = layer.hessians(), layer.magnitudes()
    assert set(hessians) == {name.removesuffix(".weight") for name in layer.matrices}
    for name, parts in inputs.items():
        x = np.concatenate(parts).astype(np.float64)
        np.testing.assert_allclose(hessians[name], 2 * x.T @ x / 8, rtol=2e-4, atol=1e-5)
        np.testing.assert_allclose(magnitudes[name], np.abs(x).mean(0), rtol=1e-4)


def test_without_calibration_the_walk_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="needs a calibration text"):
        next(bench_of(tmp_path, ()).walk())


def test_a_grid_stands_for_levels_minus_zero_times_scale() -> None:
    levels = np.arange(2 * 20, dtype=np.uint8).reshape(2, 20) % 16
    scales = np.array([[0.5, 2], [1, 4]], np.float32)
    zeros = np.array([[8, 0], [1, 15]], np.uint8)
    grid = IntegerMatrix("m", levels, scales, zeros, bits=4, block=16)
    assert grid.values[0, 3] == (3 - 8) * 0.5
    assert grid.values[0, 17] == (1 - 0) * 2
    assert grid.values[1, 19] == (7 - 15) * 4.0
    # Two rows of two blocks: 8 bytes of levels and 4 of scale each, a byte of zeros a row.
    assert grid.bytes == 2 * (2 * 12 + 1)
    symmetric = IntegerMatrix("m", levels, scales, None, bits=4, block=16)
    assert symmetric.values[1, 19] == (7 - 8) * 4.0
    between = IntegerMatrix("m", levels, scales, zeros + np.float32(0.25), bits=4, block=16)
    assert between.values[0, 3] == (3 - 8.25) * 0.5
    assert between.bytes == 2 * (2 * 12 + 8)


def test_a_grid_that_no_kernel_reads_is_refused() -> None:
    levels, scales = np.zeros((1, 32), np.uint8), np.ones((1, 1), np.float32)
    with pytest.raises(ValueError, match="no kernel"):
        IntegerMatrix("m", levels, scales, None, bits=3, block=32)
    with pytest.raises(ValueError, match="no kernel"):
        IntegerMatrix("m", levels, scales, None, bits=4, block=24)
    with pytest.raises(ValueError, match="between"):
        IntegerMatrix("m", levels, scales, scales * np.float32(3), bits=8, block=32)
    with pytest.raises(ValueError, match="shape"):
        IntegerMatrix("m", levels, scales, None, bits=4, block=16)
    with pytest.raises(ValueError, match="does not fit"):
        IntegerMatrix("m", levels + 16, scales, None, bits=4, block=32)

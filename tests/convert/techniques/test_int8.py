"""INT8 techniques against torch's own observers and kernels, against hand sums, and each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from pitool.convert.techniques import (
    absmax,
    asymmetric,
    blockwise,
    minmax,
    per_channel,
    percentile,
    pruning,
    symmetric,
)
from pitool.convert.techniques.rounding import IntegerMatrix, row_block

Rows = NDArray[np.float32]


def rows(shape: tuple[int, int] = (7, 96), seed: int = 1, heavy: bool = False) -> Rows:
    rng = np.random.default_rng(seed)
    values = rng.standard_t(4, shape) if heavy else rng.standard_normal(shape) + 0.3
    return values.astype(np.float32)


def error(grid: IntegerMatrix, values: Rows) -> float:
    return float(((grid.values - values) ** 2).mean())


def test_one_scale_by_hand() -> None:
    values = np.array([[1.27, -0.5, 0.004]] * 2, np.float32).repeat(8, axis=1)
    grid = symmetric.quantise("m", values)
    assert grid.scales[0, 0] == pytest.approx(0.01)
    assert sorted(set((grid.levels.astype(int) - 128).ravel().tolist())) == [-50, 0, 127]
    assert grid.block == row_block(24) == 32


@pytest.mark.parametrize("case", ["per tensor", "per channel", "restricted"])
def test_symmetric_grids_are_torchs(case: str) -> None:
    torch = pytest.importorskip("torch")
    values = rows()
    if case == "per channel":  # torch.ao's scale reaches half a level beyond
        scales = torch.tensor(np.abs(values).max(1) / np.float32(127.5))
        grid, low = per_channel.quantise("m", values), -128
    elif case == "restricted":
        scales = torch.tensor(np.abs(values).max(1) / np.float32(127))
        grid, low = absmax.quantise("m", values), -127
    else:
        scales = torch.full((len(values),), float(np.abs(values).max() / np.float32(127)))
        grid, low = symmetric.quantise("m", values), -127
    zeros = torch.zeros(len(values), dtype=torch.int32)
    back = torch.fake_quantize_per_channel_affine(
        torch.tensor(values), scales, zeros, 0, low, 127
    ).numpy()
    np.testing.assert_allclose(grid.values, back, atol=1e-6)


def test_per_channel_scales_are_those_of_torchs_observer() -> None:
    observer = pytest.importorskip("torch.ao.quantization.observer")
    torch = pytest.importorskip("torch")
    watch = observer.PerChannelMinMaxObserver(
        dtype=torch.qint8, qscheme=torch.per_channel_symmetric
    )
    watch(torch.tensor(rows()))
    wanted, _ = watch.calculate_qparams()
    found = per_channel.quantise("m", rows()).scales[:, 0]
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-6)


@pytest.mark.parametrize("case", ["tensor", "row"])
def test_zero_points_are_those_of_torchs_observer(case: str) -> None:
    observer = pytest.importorskip("torch.ao.quantization.observer")
    torch = pytest.importorskip("torch")
    if case == "tensor":
        watch = observer.MinMaxObserver(dtype=torch.quint8, qscheme=torch.per_tensor_affine)
        grid = asymmetric.quantise("m", rows())
    else:
        watch = observer.PerChannelMinMaxObserver(
            dtype=torch.quint8, qscheme=torch.per_channel_affine
        )
        grid = minmax.quantise("m", rows())
    watch(torch.tensor(rows()))
    scales, zeros = watch.calculate_qparams()
    assert grid.zeros is not None
    np.testing.assert_allclose(grid.scales[:, 0], np.broadcast_to(scales, 7), rtol=1e-6)
    np.testing.assert_array_equal(grid.zeros[:, 0], np.broadcast_to(zeros, 7))


def test_a_range_without_zero_is_widened_to_it() -> None:
    grid = minmax.quantise("m", np.full((1, 16), 2.0, np.float32))
    assert grid.zeros is not None
    assert grid.zeros[0, 0] == 0
    np.testing.assert_allclose(grid.values, 2.0, rtol=1e-6)


@pytest.mark.parametrize("block", [32, 64, 128])
def test_blocks_have_their_own_scales_and_smaller_ones_lose_less(block: int) -> None:
    values = rows((4, 160))
    grid = blockwise.quantise("m", values, block)
    assert grid.scales.shape == (4, -(-160 // block))
    first = np.abs(values[:, :block]).max(1) / 127
    np.testing.assert_allclose(grid.scales[:, 0], first, rtol=1e-6)
    assert error(grid, values) < error(blockwise.quantise("m", values, 2 * block), values)
    assert error(grid, values) < error(symmetric.quantise("m", values), values)


def test_clipping_loses_less_than_minmax_on_heavy_tails() -> None:
    values = rows((512, 1024), heavy=True)
    clipped = error(percentile.quantise("m", values), values)
    assert clipped < 0.75 * error(asymmetric.quantise("m", values), values)
    exact = np.quantile(np.abs(values), 0.999)
    assert percentile.reach(values, 99.9) == pytest.approx(exact, abs=np.abs(values).max() / 2048)


def test_pruned_shares() -> None:
    values = rows((16, 64))
    kept = pruning.smallest(values, 0.25)
    assert (kept == 0).mean() == pytest.approx(0.25, abs=1 / values.size)
    assert np.abs(values[kept == 0]).max() < np.abs(values[kept != 0]).min()
    half = pruning.two_of_four(values)
    groups = half.reshape(-1, 4)
    assert ((groups != 0).sum(1) == 2).all()
    dropped = np.abs(values.reshape(-1, 4)) * (groups == 0)
    assert (dropped.max(1) <= np.where(groups != 0, np.abs(groups), np.inf).min(1)).all()
    grid = blockwise.quantise("m", half, 32)
    assert (grid.values[half == 0] == 0).all()


CONSTANT: list[Callable[[str, Rows], IntegerMatrix]] = [
    symmetric.quantise, asymmetric.quantise, absmax.quantise, minmax.quantise,
    per_channel.quantise, percentile.quantise, lambda n, r: blockwise.quantise(n, r, 64),
]  # fmt: skip


@pytest.mark.parametrize("quantise", CONSTANT)
def test_a_matrix_of_zeros_stays_one(quantise: Callable[[str, Rows], IntegerMatrix]) -> None:
    grid = quantise("m", np.zeros((3, 40), np.float32))
    assert (grid.values == 0).all()
    assert np.isfinite(grid.scales).all()

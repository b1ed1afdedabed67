"""Codebooks: published values, sizes by formula, and k-means against uniform levels."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray

from pitool.convert.techniques import blockwise, floats4, hqq, kmeans, symmetric
from pitool.convert.techniques.floats4 import FP4, NF4, dynamic_code


def normal(shape: tuple[int, int], seed: int = 2) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_nf4_is_the_quantiles_of_a_normal_distribution() -> None:
    """QLoRA, appendix E: eight positive and seven negative quantiles and zero, scaled to 1."""
    offset = 0.9677083
    inverse = NormalDist().inv_cdf
    positive = [inverse(p) for p in np.linspace(offset, 0.5, 9)[:-1]]
    negative = [-inverse(p) for p in np.linspace(offset, 0.5, 8)[:-1]]
    wanted = np.sort([*positive, 0.0, *negative])
    np.testing.assert_allclose(NF4, wanted / wanted.max(), atol=2e-6)


def test_fp4_is_a_float_of_three_bits_and_a_sign() -> None:
    """Exponents 2^-3 to 2^-1 of a mantissa 1 or 1.5, over the largest, and one subnormal."""
    normals = {m * 2.0**e / 0.75 for m in (1, 1.5) for e in (-3, -2, -1)}
    assert sorted(FP4[FP4 > 0.1].tolist()) == pytest.approx(sorted(normals))
    assert FP4[FP4 > 0].min() == pytest.approx(0.0052083333)
    assert len(FP4) == 15  # minus zero is zero


def test_the_dynamic_code_has_256_values_in_decades() -> None:
    code = dynamic_code()
    assert len(np.unique(code)) == 256
    assert code[0] == pytest.approx(-0.9929687)
    assert code[-1] == 1
    assert np.count_nonzero((code > 0.1) & (code < 1)) == 64  # the finest decade: 2^6
    smallest = code[code > 0].min()
    assert smallest == pytest.approx(0.55e-6)


def test_double_quantization_has_the_size_of_the_formula_and_costs_little() -> None:
    values = normal((96, 1024))
    made = floats4.quantise("m", values, NF4)
    blocks = 96 * 1024 // 64
    assert made.bytes == 96 * 1024 // 2 + blocks + 4 * (blocks // 256) + 4
    # 0.127 bits a weight for the scales instead of 0.5 (QLoRA, section 3).
    assert (made.bytes - 4) * 8 / values.size == pytest.approx(4 + 8 / 64 + 32 / (64 * 256))
    scales = np.abs(values.reshape(-1, 64)).max(1, keepdims=True)
    plain = kmeans.assign(values.reshape(-1, 64) / scales, NF4) * scales
    single = ((plain.reshape(values.shape) - values) ** 2).mean()
    assert ((made.values - values) ** 2).mean() == pytest.approx(single, rel=0.03)


def test_nf4_loses_less_than_fp4_and_uniform_levels_on_normal_weights() -> None:
    values = normal((64, 512))
    made = [floats4.quantise("m", values, code).values for code in (NF4, FP4)]
    losses = [((back - values) ** 2).mean() for back in made]
    uniform = ((blockwise.quantise("m", values, 64, 4).values - values) ** 2).mean()
    assert losses[0] < losses[1]
    assert losses[0] < uniform


@pytest.mark.parametrize("bits", [4, 8])
def test_k_means_loses_less_than_uniform_levels_at_equal_bytes(bits: int) -> None:
    values = np.random.default_rng(4).standard_t(4, (64, 512)).astype(np.float32)
    made = kmeans.quantise("m", values, bits)
    assert made.bytes == 64 * 512 * bits // 8 + 4 * (1 << bits)
    assert len(np.unique(made.values)) <= 1 << bits
    levels = np.linspace(values.min(), values.max(), 1 << bits, dtype=np.float32)
    uniform = ((kmeans.assign(values, levels) - values) ** 2).mean()
    assert ((made.values - values) ** 2).mean() < {4: 0.7, 8: 0.95}[bits] * uniform
    if bits == 8:
        grid = symmetric.quantise("m", values)
        assert ((made.values - values) ** 2).mean() < ((grid.values - values) ** 2).mean()


def test_centroids_are_the_means_of_what_is_nearest() -> None:
    values = normal((32, 256))
    centroids = kmeans.codebook(values, 16)
    nearest = np.abs(values.ravel()[:, None] - centroids).argmin(1)
    for i, centroid in enumerate(centroids):
        mine = values.ravel()[nearest == i]
        if len(mine):
            assert mine.mean() == pytest.approx(centroid, abs=0.02)
    np.testing.assert_array_equal(kmeans.assign(values, centroids).ravel(), centroids[nearest])


def test_hqq_lowers_the_norm_that_it_is_for() -> None:
    """The mean of |error|^0.7 against zero points rounded from the range, at the same scales."""
    values = np.random.default_rng(5).standard_t(3, (32, 512)).astype(np.float32)
    grid = hqq.quantise("m", values)
    blocks = values.reshape(32, -1, 64)
    low, high = blocks.min(-1, keepdims=True), blocks.max(-1, keepdims=True)
    step = (high - low) / 15
    plain = np.clip(np.rint((blocks - low) / step), 0, 15) * step + low

    def loss(back: NDArray[np.float32]) -> float:
        return float((np.abs(back - blocks) ** 0.7).mean())

    assert loss(grid.values.reshape(blocks.shape)) < 0.99 * loss(plain)


def test_shrinking_is_the_proximal_step() -> None:
    """Large errors stay nearly as they are, small ones become zero; by hand at one point."""
    found = hqq.shrink(np.array([0.001, 2.0, -2.0], np.float32), 10.0)
    assert found[0] == 0
    assert found[1] == pytest.approx(2 - 2 ** (0.7 - 1) / 10)
    assert found[2] == -found[1]

"""NF4 and FP4: bitsandbytes' 4-bit floats in blocks of 64, with quantised scales.

NF4's values are quantiles of a normal distribution (QLoRA, appendix E); FP4 has a sign, two bits
of exponent and one of mantissa. Double quantisation subtracts the mean from the blocks' scales and
stores them in an 8-bit dynamic code, with a float32 for every 256. No CPU runtime has a kernel for
either.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from pitool.convert.techniques.base import Technique
from pitool.convert.techniques.kmeans import assign
from pitool.convert.techniques.rounding import Floats, FloatTensor, blocks_of
from pitool.convert.techniques.workbench import per_matrix

BLOCK, SCALES_BLOCK = 64, 256
NF4 = np.array(
    [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
        -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
        0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
        0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ],
    np.float32,
)  # fmt: skip
_POSITIVE = np.array([0.0, 1 / 192, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 1.0], np.float32)
FP4 = np.unique(np.concatenate([-_POSITIVE, _POSITIVE]))


def dynamic_code() -> Floats:
    """Return the 256 values of bitsandbytes' signed dynamic 8-bit code, sorted.

    A sign, a run of zeros that is a decimal exponent, and a linear fraction in what is left
    (Dettmers et al. 2022, arXiv:2110.02861, section 2).
    """
    values: list[float] = [0.0, 1.0]
    for exponent in range(7):
        edges = np.linspace(0.1, 1, (1 << exponent) + 1)
        means = (edges[:-1] + edges[1:]) / 2 * 10.0 ** (exponent - 6)
        values += [*means, *-means]
    return np.sort(np.array(values, np.float32))


def quantise_scales(scales: Floats) -> Floats:
    """Return the scales as double quantisation stores them, in the same shape."""
    mean = scales.mean(dtype=np.float64).astype(np.float32)
    flat = (scales - mean).ravel()
    short = -flat.size % SCALES_BLOCK
    groups = np.pad(flat, (0, short)).reshape(-1, SCALES_BLOCK)
    reach = np.maximum(np.abs(groups).max(1, keepdims=True), np.finfo(np.float32).tiny)
    back = assign(groups / reach, dynamic_code()) * reach
    doubled: Floats = back.ravel()[: flat.size].reshape(scales.shape) + mean
    return doubled


def size(rows: int, columns: int) -> int:
    """Return the bytes of a matrix: half a byte per weight, one per block, four per 256, a mean."""
    blocks = rows * -(-columns // BLOCK)
    return -(-rows * columns // 2) + blocks + 4 * -(-blocks // SCALES_BLOCK) + 4


def quantise(name: str, rows: Floats, code: Floats) -> FloatTensor:
    """Return a matrix in blocks of 64 4-bit floats with doubly quantised scales."""
    cut = blocks_of(rows, BLOCK)
    scales = np.abs(cut).max(-1)
    nonzero = np.maximum(scales, np.finfo(np.float32).tiny)[..., None]
    values = assign(cut / nonzero, code) * quantise_scales(scales)[..., None]
    back = values.reshape(len(rows), -1)[:, : rows.shape[1]]
    return FloatTensor(name, back.astype(np.float32), size(*rows.shape))


def _row(name: str, what: str, code: Floats, source: str) -> Technique:
    return Technique(
        name=name,
        title=f"{name.upper()}, double quantisation",
        effect=f"Rounds blocks of {BLOCK} weights to 16 {what}, and the scales to 8 bits.",
        source=source,
        make=per_matrix(partial(quantise, code=code)),
        bits=4 + 8 / BLOCK + 32 / BLOCK / SCALES_BLOCK,
        note="no CPU kernel: evaluated with dequantised weights",
    )


NF4_DOUBLE = _row(
    "nf4", "quantiles of a normal distribution", NF4, "Dettmers et al. 2023 (arXiv:2305.14314)"
)
FP4_DOUBLE = _row("fp4", "4-bit floats", FP4, "bitsandbytes, FP4")

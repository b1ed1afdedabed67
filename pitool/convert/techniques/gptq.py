"""GPTQ: the rounding error of each column is compensated by the columns not rounded yet.

Layer by layer, with the inputs that the quantised layers before it produce. The Hessian of a
matrix comes from its inputs; columns are rounded in descending order of its diagonal (act order),
with one scale per block of 32. Frantar et al. 2022 (arXiv:2210.17323), algorithm 1, with the
inverse by Cholesky decomposition.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pitool.convert.techniques.base import Need, Technique
from pitool.convert.techniques.rounding import Floats, IntegerMatrix, blocks_of, spread
from pitool.convert.techniques.workbench import Workbench

BITS, BLOCK = 4, 32
DAMPING = 0.01
LAZY = 128
SHRINKS = np.linspace(1.0, 0.6, 17, dtype=np.float32)


def scales_of(rows: Floats, importance: Floats, bits: int = BITS, block: int = BLOCK) -> Floats:
    """Return the scale of each block, (rows, blocks): of several, the one with the least error.

    ``importance`` (columns,): the Hessian's diagonal, which weights the errors.
    """
    half = 1 << (bits - 1)
    blocks = blocks_of(rows, block)
    weights = blocks_of(importance[None], block)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)[..., 0]
    base = extreme / np.float32(-half)
    base = np.where(base == 0, np.finfo(np.float32).tiny, base).astype(np.float32)
    best, least = base, np.full(base.shape, np.inf, np.float32)
    for shrink in SHRINKS:
        scales = base * shrink
        levels = np.clip(np.rint(blocks / scales[..., None]), -half, half - 1)
        error = ((levels * scales[..., None] - blocks) ** 2 * weights).sum(-1)
        best, least = np.where(error < least, scales, best), np.minimum(error, least)
    return best


def inverse_factor(hessian: Floats) -> NDArray[np.float64]:
    """Return the upper Cholesky factor of the damped Hessian's inverse."""
    damped = hessian.astype(np.float64)
    mean = max(float(np.diag(damped).mean()), 1e-12)
    damped[np.diag_indices_from(damped)] += DAMPING * mean
    inverse = np.linalg.inv(np.linalg.cholesky(damped))
    factor: NDArray[np.float64] = np.linalg.cholesky(inverse.T @ inverse).T
    return factor


def quantise(
    name: str, rows: Floats, hessian: Floats, bits: int = BITS, block: int = BLOCK
) -> IntegerMatrix:
    """Return a matrix (rows, columns) rounded for inputs with a Hessian (columns, columns)."""
    half = 1 << (bits - 1)
    scales = scales_of(rows, np.diag(hessian), bits, block)
    steps = spread(scales, block, rows.shape[1])
    order = np.argsort(-np.diag(hessian), kind="stable")
    factor = inverse_factor(hessian[np.ix_(order, order)])
    left = rows[:, order].astype(np.float64)
    steps = steps[:, order]
    levels = np.empty(rows.shape, np.uint8)
    for first in range(0, len(order), LAZY):
        last = min(first + LAZY, len(order))
        errors = np.empty((len(rows), last - first))
        for i in range(first, last):
            rounded = np.clip(np.rint(left[:, i] / steps[:, i]), -half, half - 1)
            levels[:, order[i]] = rounded + half
            errors[:, i - first] = (left[:, i] - rounded * steps[:, i]) / factor[i, i]
            left[:, i:last] -= np.outer(errors[:, i - first], factor[i, i:last])
        left[:, last:] -= errors @ factor[first:last, last:]
    return IntegerMatrix(name, levels, scales, None, bits, block)


def make(bench: Workbench) -> Iterator[IntegerMatrix]:
    """Yield every matrix, layer by layer; later layers see the quantised earlier ones."""
    for layer in bench.walk():
        hessians = layer.hessians()
        for short in layer.matrices:
            grid = quantise(
                layer.full(short), layer.weights[short], hessians[short.removesuffix(".weight")]
            )
            layer.replace(short, grid.values)
            yield grid


TECHNIQUE = Technique(
    name="gptq-int4",
    title="GPTQ 4 bits, blocks of 32",
    effect="Rounds column by column; later columns compensate the error on a calibration text.",
    source="Frantar et al. 2022 (arXiv:2210.17323)",
    make=make,
    bits=BITS + 32 / BLOCK,
    kernel="onnxruntime",
    needs=frozenset({Need.CALIBRATION}),
)

"""HQQ: zero points between the levels, chosen so that few large errors remain.

Half-quadratic splitting (Badri and Shaji 2023) alternates between shrinking the errors towards a
sparse set (a proximal step of the l_p norm, p below 1) and solving for the zero point in closed
form. Needs no calibration text.
"""

from __future__ import annotations

import numpy as np

from pitool.convert.techniques.base import Technique
from pitool.convert.techniques.rounding import Floats, IntegerMatrix, blocks_of, spread
from pitool.convert.techniques.workbench import per_matrix

BITS, BLOCK = 4, 64
NORM, BETA, GROWTH, ITERATIONS = 0.7, 10.0, 1.01, 20


def shrink(errors: Floats, beta: float) -> Floats:
    """Return the proximal step of the l_p norm, generalised soft thresholding."""
    magnitude = np.abs(errors)
    with np.errstate(divide="ignore"):
        kept = magnitude - np.power(magnitude, np.float32(NORM - 1)) / np.float32(beta)
    moved: Floats = np.sign(errors) * np.maximum(kept, 0)
    return moved


def solve(blocks: Floats) -> tuple[Floats, Floats]:
    """Return scales and zero points of blocks (rows, blocks, block), each (rows, blocks)."""
    most = (1 << BITS) - 1
    low, high = blocks.min(-1), blocks.max(-1)
    span = np.maximum(high - low, np.finfo(np.float32).tiny)
    scales = (span / most).astype(np.float32)
    zeros = -low / scales
    inverse = (1 / scales)[..., None]
    beta, best = BETA, np.full(scales.shape, np.inf, np.float32)
    kept = zeros
    for _ in range(ITERATIONS):
        levels = np.clip(np.rint(blocks * inverse + zeros[..., None]), 0, most)
        back = (levels - zeros[..., None]) * scales[..., None]
        errors = blocks - back
        loss = np.abs(errors).mean(-1)
        kept, best = np.where(loss < best, zeros, kept), np.minimum(loss, best)
        target = blocks - shrink(errors, beta)
        zeros = (levels - target * inverse).mean(-1)
        beta *= GROWTH
    return scales, kept.astype(np.float32)


def quantise(name: str, rows: Floats) -> IntegerMatrix:
    """Return a matrix with 4 bits and zero points between the levels."""
    scales, zeros = solve(blocks_of(rows, BLOCK))
    columns = rows.shape[1]
    levels = np.rint(rows / spread(scales, BLOCK, columns) + spread(zeros, BLOCK, columns))
    stored = np.clip(levels, 0, (1 << BITS) - 1).astype(np.uint8)
    return IntegerMatrix(name, stored, scales, zeros, BITS, BLOCK)


TECHNIQUE = Technique(
    name="hqq-int4",
    title="HQQ 4 bits, blocks of 64",
    effect="Rounds to 4 bits with zero points that leave few large errors; no calibration text.",
    source="Badri and Shaji 2023, Half-Quadratic Quantization (mobiusml.github.io/hqq_blog)",
    make=per_matrix(quantise),
    bits=BITS + 64 / BLOCK,
    kernel="onnxruntime",
    note="with zero points between the levels, the kernel computes in float32",
)

"""Quantises rows of weights as onnxruntime's kernels read them.

Symmetric blocks keep the value of largest magnitude exact (as ``MlasQuantizeBlockwise`` of
onnxruntime does, and Q4_0 of llama.cpp), or all of them where they lie on a grid; asymmetric ones
span from smallest to largest, zero included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.convert.lattice import Floats, find_scales, inverse_of, stored_as

Bytes = NDArray[np.uint8]


# Of a matrix, that are looked at before all are.
SAMPLE_BLOCKS = 16


@dataclass(frozen=True, slots=True)
class Blocks:
    """Quantised rows: ``weights`` (rows, blocks, bytes a block), ``scales`` (rows, blocks).

    ``zero_points`` (rows, bytes), None when symmetric: then half of the range.
    """

    weights: Bytes
    scales: Floats
    zero_points: Bytes | None


def quantise_blocks(rows: Floats, bits: int, block: int, *, asymmetric: bool) -> Blocks:
    """Quantise rows of shape (rows, columns) to 4 or 8 bits; the last block is filled with 0."""
    count, columns = rows.shape
    if columns % block:
        rows = np.pad(rows, ((0, 0), (0, -columns % block)))
    values = rows.reshape(count, -1, block)
    high, low = values.max(-1), values.min(-1)
    largest = (1 << bits) - 1
    if asymmetric:
        high, low = np.maximum(high, 0), np.minimum(low, 0)
        scales = (high - low) / np.float32(largest)
        inverse = inverse_of(scales)
        zeros = np.rint(-low * inverse)
    else:
        extreme = np.where(np.abs(high) > np.abs(low), high, low)
        scales = _on_grid(values, extreme / np.float32(-(1 << (bits - 1))), bits)
        inverse = inverse_of(scales)
        zeros = np.full_like(scales, 1 << (bits - 1))
    levels = values * inverse[..., None]
    levels += zeros[..., None] + np.float32(0.5)
    np.clip(levels, 0, largest, out=levels)
    weights = pack(levels.astype(np.uint8), bits)
    packed = pack(even(zeros.astype(np.uint8), bits), bits) if asymmetric else None
    return Blocks(weights, scales.astype(np.float32), packed)


def _on_grid(values: Floats, scales: Floats, bits: int) -> Floats:
    """Return the scales of a grid for the blocks that lie on one, of shape (rows, blocks, block).

    ``scales``: those that the other blocks have. Nothing is looked for where the first blocks lie
    on no grid.
    """
    if bits > 4:
        return scales
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    blocks = values.reshape(-1, values.shape[-1])
    stored = stored_as([blocks])
    first = find_scales(blocks[:SAMPLE_BLOCKS], low, high, half=False, stored=stored)
    if np.isnan(first).any():
        return scales
    found = find_scales(blocks, low, high, half=False, stored=stored)
    return np.where(np.isnan(found), scales.ravel(), found).reshape(scales.shape)


def quantise_rows(rows: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Quantise each row to signed 8 bits with a scale of its own; return both, (rows, ...)."""
    scales = np.abs(rows).max(-1) / np.float32(127)
    levels = np.rint(rows * inverse_of(scales)[:, None])
    return levels.astype(np.int8), scales.astype(np.float32)


def even(levels: Bytes, bits: int) -> Bytes:
    """Add a column where two levels share a byte and one has no partner."""
    return np.pad(levels, ((0, 0), (0, levels.shape[1] % 2))) if bits == 4 else levels


def pack(levels: Bytes, bits: int) -> NDArray[Any]:
    """Put two 4-bit levels into a byte, the first in the low half."""
    return levels[..., ::2] | levels[..., 1::2] << 4 if bits == 4 else levels

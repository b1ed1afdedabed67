"""Rounding to grids that several techniques share: blocks of rows, scales, zero points."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.convert.techniques.base import Floats, Grid

LEAST_BLOCK = 16


def row_block(columns: int) -> int:
    """Return the block that holds a whole row: a power of two, as the kernel wants it."""
    return max(LEAST_BLOCK, 1 << (columns - 1).bit_length())


def blocks_of(rows: Floats, block: int) -> Floats:
    """Return rows cut into blocks, (rows, blocks, block); a short last one repeats its last value.

    So that no value is added that a range would have to include.
    """
    short = -rows.shape[1] % block
    padded = np.pad(rows, ((0, 0), (0, short)), mode="edge") if short else rows
    return padded.reshape(len(rows), -1, block)


def largest(rows: Floats, block: int) -> Floats:
    """Return the largest magnitude of each block, (rows, blocks)."""
    found: Floats = np.abs(blocks_of(rows, block)).max(-1)
    return found


def symmetric(
    name: str, rows: Floats, reach: Floats, bits: int, block: int, *, restricted: bool = True
) -> Grid:
    """Return rows on a grid around zero that reaches ``reach`` (rows, blocks), clipped beyond.

    ``restricted``: as many levels below zero as above it (-127 to 127); else one more below, and
    ``reach`` lies half a level beyond the last one, as torch.ao has it.
    """
    half = 1 << (bits - 1)
    steps = np.float32(half - 1 if restricted else half - 0.5)
    scales = np.maximum(reach / steps, np.finfo(np.float32).tiny).astype(np.float32)
    levels = np.rint(rows / spread(scales, block, rows.shape[1]))
    low = 1 - half if restricted else -half
    stored = (np.clip(levels, low, half - 1) + half).astype(np.uint8)
    return Grid(name, stored, scales, None, bits, block)


def asymmetric(name: str, rows: Floats, low: Floats, high: Floats, bits: int, block: int) -> Grid:
    """Return rows on a grid from ``low`` to ``high`` (rows, blocks), zero included."""
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    most = (1 << bits) - 1
    scales = np.maximum((high - low) / most, np.finfo(np.float32).tiny).astype(np.float32)
    zeros = np.clip(np.rint(-low / scales), 0, most).astype(np.uint8)
    columns = rows.shape[1]
    levels = np.rint(rows / spread(scales, block, columns)) + spread(zeros, block, columns)
    return Grid(name, np.clip(levels, 0, most).astype(np.uint8), scales, zeros, bits, block)


def spread(values: NDArray[Any], block: int, columns: int) -> Floats:
    """Return a number of each block for each of its columns, (rows, columns)."""
    return np.repeat(values.astype(np.float32), block, axis=1)[:, :columns]


def whole(rows: Floats, value: float) -> Floats:
    """Return one number for every row, as the scales of a matrix that has one."""
    return np.full((len(rows), 1), value, np.float32)

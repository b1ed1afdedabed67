"""Quantised tensors, and the rounding to integer levels that several techniques share.

Owns the arithmetic of levels, scales and zero points. Knows no file and no runtime.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
LEAST_BLOCK = 16


@dataclass(frozen=True, slots=True)
class FloatTensor:
    """A tensor in a format that no kernel reads, dequantised.

    ``values`` have the checkpoint's shape; ``bytes``: its size in the technique's own format,
    codebooks and scales included.
    """

    name: str
    values: Floats
    bytes: int


@dataclass(frozen=True, slots=True)
class IntegerMatrix:
    """A matrix (rows, columns) of integer levels: value = (level - zero) * scale.

    Scales and zero points belong to blocks of a row, as onnxruntime's MatMulNBits reads them.
    ``levels`` (rows, columns): uint8 below 2 ** ``bits``, not packed. ``scales`` (rows, blocks).
    ``zeros`` (rows, blocks): uint8 levels, or float32 where zero points lie between levels (HQQ,
    4 bits only); None for the middle of the range. ``bits`` is 4 or 8. ``block`` is a power of
    two of at least 16, and the last block may be short; one scale a row is one block that holds
    the whole row.
    """

    name: str
    levels: Bytes
    scales: Floats
    zeros: Bytes | Floats | None
    bits: int
    block: int

    def __post_init__(self) -> None:
        rows, columns = self.levels.shape
        blocks = (rows, -(-columns // self.block))
        if self.bits not in (4, 8) or self.block < 16 or self.block & (self.block - 1):
            raise ValueError(f"{self.name}: no kernel reads {self.bits}-bit blocks of {self.block}")
        if self.bits == 8 and self.between:
            raise ValueError(f"{self.name}: no kernel reads zero points between 8-bit levels")
        if self.scales.shape != blocks or (self.zeros is not None and self.zeros.shape != blocks):
            raise ValueError(f"{self.name}: scales or zeros are not of shape {blocks}")
        if self.levels.size and int(self.levels.max()) >= 1 << self.bits:
            raise ValueError(f"{self.name}: a level does not fit into {self.bits} bits")

    @property
    def between(self) -> bool:
        """Whether zero points lie between levels."""
        return self.zeros is not None and self.zeros.dtype != np.uint8

    @property
    def values(self) -> Floats:
        """The values that the levels stand for, (rows, columns) float32."""
        columns = self.levels.shape[1]
        zeros: np.float32 | Floats = np.float32(1 << (self.bits - 1))
        if self.zeros is not None:
            zeros = spread(self.zeros, self.block, columns)
        scales = spread(self.scales, self.block, columns)
        return (self.levels.astype(np.float32) - zeros) * scales

    @property
    def bytes(self) -> int:
        """Bytes in MatMulNBits' layout: levels, float32 scales, zero points."""
        rows, blocks = map(int, self.scales.shape)
        size = rows * blocks * (self.block * self.bits // 8 + 4)
        if self.zeros is None:
            return size
        return size + rows * (4 * blocks if self.between else -(-blocks * self.bits // 8))


QuantisedTensor = FloatTensor | IntegerMatrix


def row_block(columns: int) -> int:
    """Return the block size that holds a whole row: the next power of two, as the kernel needs."""
    return max(LEAST_BLOCK, 1 << (columns - 1).bit_length())


def blocks_of(rows: Floats, block: int) -> Floats:
    """Return rows cut into blocks, (rows, blocks, block).

    A short last block repeats its last value: a zero would widen the range of the block.
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
) -> IntegerMatrix:
    """Return rows rounded to levels around zero, clipped at ``reach`` (rows, blocks).

    ``restricted``: as many levels below zero as above (-127 to 127). Otherwise there is one more
    below, and ``reach`` lies half a level beyond the last one, as in torch.ao.
    """
    half = 1 << (bits - 1)
    steps = np.float32(half - 1 if restricted else half - 0.5)
    scales = np.maximum(reach / steps, np.finfo(np.float32).tiny).astype(np.float32)
    levels = np.rint(rows / spread(scales, block, rows.shape[1]))
    low = 1 - half if restricted else -half
    stored = (np.clip(levels, low, half - 1) + half).astype(np.uint8)
    return IntegerMatrix(name, stored, scales, None, bits, block)


def asymmetric(
    name: str, rows: Floats, low: Floats, high: Floats, bits: int, block: int
) -> IntegerMatrix:
    """Return rows rounded to levels from ``low`` to ``high`` (rows, blocks), which include zero."""
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    most = (1 << bits) - 1
    scales = np.maximum((high - low) / most, np.finfo(np.float32).tiny).astype(np.float32)
    zeros = np.clip(np.rint(-low / scales), 0, most).astype(np.uint8)
    columns = rows.shape[1]
    levels = np.rint(rows / spread(scales, block, columns)) + spread(zeros, block, columns)
    return IntegerMatrix(
        name, np.clip(levels, 0, most).astype(np.uint8), scales, zeros, bits, block
    )


def spread(values: NDArray[Any], block: int, columns: int) -> Floats:
    """Return the number of each block repeated for each of its columns, (rows, columns)."""
    return np.repeat(values.astype(np.float32), block, axis=1)[:, :columns]


def per_row(rows: Floats, value: float) -> Floats:
    """Return the same number for every row, (rows, 1), for a matrix with a single scale."""
    return np.full((len(rows), 1), value, np.float32)

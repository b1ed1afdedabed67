"""What a quantization technique is: what it says of itself, and what it makes.

A technique gets a ``Workbench`` and makes one of two things:

- ``Made``: a GGUF file or an ONNX folder that a runtime's own tool wrote;
- a stream of ``Stored``, tensor by tensor in any order: ``Grid`` for a matrix that is in blocks of
  integers as onnxruntime's MatMulNBits reads them, ``Dense`` for any other format.

What becomes of the stream is decided by ``kernel``: with one, the grids are written as they are
into an ONNX folder that really runs; without, the values are written as a float GGUF, and only
quality and size are reported. Tensors of the layers that are not yielded stay as in the
checkpoint; embedding and head that are not yielded are stored in 8-bit blocks for every technique
alike, so that sizes can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pitool.convert.techniques.workbench import Workbench

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Kernel = Literal["llama.cpp", "onnxruntime"]


class Need(StrEnum):
    """What a technique cannot do without."""

    CALIBRATION = "calibration text"
    TORCH = "torch"


@dataclass(frozen=True, slots=True)
class Dense:
    """A tensor of the checkpoint with the values that its stored form stands for.

    ``values`` have the checkpoint's shape; ``bytes``: what the technique's own format takes for
    it, codebooks and scales included.
    """

    name: str
    values: Floats
    bytes: int


@dataclass(frozen=True, slots=True)
class Grid:
    """A matrix (rows, columns) in blocks of a row: value = (level - zero) * scale.

    ``levels`` (rows, columns) uint8, below 2 ** ``bits``, not packed; ``scales`` (rows, blocks);
    ``zeros`` (rows, blocks): uint8 levels, or float32 where a technique has zero points between
    the levels (HQQ; 4 bits only); None for half of the range. ``bits`` is 4 or 8; ``block`` a
    power of two of at least 16; the last block may be short. One scale a row is a block of at
    least the columns.
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
            raise ValueError(f"{self.name}: no kernel has {self.bits} bits in {self.block}")
        if self.bits == 8 and self.between:
            raise ValueError(f"{self.name}: no kernel has zero points between 8-bit levels")
        if self.scales.shape != blocks or (self.zeros is not None and self.zeros.shape != blocks):
            raise ValueError(f"{self.name}: scales or zeros are not of shape {blocks}")
        if self.levels.size and int(self.levels.max()) >= 1 << self.bits:
            raise ValueError(f"{self.name}: a level does not fit into {self.bits} bits")

    @property
    def between(self) -> bool:
        """Whether zero points lie between the levels."""
        return self.zeros is not None and self.zeros.dtype != np.uint8

    @property
    def values(self) -> Floats:
        """The values that the levels stand for, (rows, columns) float32."""
        columns = self.levels.shape[1]
        zeros = np.float32(1 << (self.bits - 1)) if self.zeros is None else self._spread(self.zeros)
        return ((self.levels.astype(np.float32) - zeros) * self._spread(self.scales))[:, :columns]

    def _spread(self, blocks: NDArray[np.uint8] | Floats) -> Floats:
        """Return a number of each block for each of its columns."""
        columns = self.levels.shape[1]
        return np.repeat(blocks.astype(np.float32), self.block, axis=1)[:, :columns]

    @property
    def bytes(self) -> int:
        """Bytes in MatMulNBits' layout: levels, float32 scales, zero points."""
        rows, blocks = map(int, self.scales.shape)
        size = rows * blocks * (self.block * self.bits // 8 + 4)
        if self.zeros is None:
            return size
        return size + rows * (4 * blocks if self.between else -(-blocks * self.bits // 8))


Stored = Dense | Grid


@dataclass(frozen=True, slots=True)
class Made:
    """An artifact as a runtime reads it: a GGUF file, or an ONNX folder."""

    format: Literal["gguf", "onnx"]
    entry: Path


@dataclass(frozen=True, slots=True)
class Technique:
    """One row of the table in ``techniques``.

    ``effect``: what it does to weights or activations, one sentence; ``source``: paper or
    implementation; ``kernel``: the runtime that has a kernel for its result, None where it is
    evaluated with dequantized weights; ``bits``: of a weight, nominally; ``note``: what a reader
    of the table must know, such as into what it is packed. ``version`` is raised when the same
    checkpoint gives another result, so that stored results are not taken for it.
    """

    name: str
    title: str
    effect: str
    source: str
    make: Callable[[Workbench], Made | Iterator[Stored]]
    bits: float
    kernel: Kernel | None = None
    needs: frozenset[Need] = frozenset()
    note: str = ""
    version: int = 1

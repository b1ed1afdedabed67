"""A matrix in one of ggml's types by error feedback, with scales by ggml's own search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pitool.catalog.tensor_types import TensorType
from pitool.convert import feedback
from pitool.convert.feedback import Levels, Steps
from pitool.convert.gguf.ggml import dequantise_rows, quantise_rows
from pitool.convert.gguf.levels import Layout, layout_of
from pitool.convert.lattice import Floats

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class TypeGrid:
    """The blocks of a tensor type."""

    kind: TensorType
    layout: Layout

    @property
    def block(self) -> int:
        """Columns that are stored together: a superblock of the K types."""
        return self.kind.block

    def steps(self, rows: Floats, importance: Floats) -> Steps:
        """Return the steps that ggml finds for a block."""
        packed, layout = quantise_rows(rows, self.kind, importance), self.layout
        offsets = None if layout.offsets is None else np.ascontiguousarray(layout.offsets(packed).T)
        scales = np.ascontiguousarray(layout.scales(packed).T)
        even = bool((np.diff(layout.values) == 1).all())
        return Steps(scales, offsets, layout.values, even, packed)

    def nearest(self, rows: Floats, importance: Floats) -> Floats:
        """Return rows as they are after ggml's own quantiser."""
        return dequantise_rows(quantise_rows(rows, self.kind, importance), self.kind)


def grid_of(kind: TensorType, columns: int) -> TypeGrid | None:
    """Return the grid of a type, None where it has none or its blocks do not divide the rows."""
    layout = layout_of(kind)
    return TypeGrid(kind, layout) if layout and columns % kind.block == 0 else None


def quantise(
    rows: Floats, hessian: NDArray[np.float64], grid: TypeGrid, sweeps: int = 0
) -> tuple[Bytes, Floats]:
    """Return a matrix as stored in a type, (rows, bytes), and the weights that these bytes are."""
    made = feedback.quantise(rows, hessian, grid, sweeps)
    return pack(made, grid), made.values


def pack(made: Levels, grid: TypeGrid) -> Bytes:
    """Return the bytes of a matrix, (rows, bytes)."""
    packed = np.ascontiguousarray(made.stored).reshape(-1, grid.kind.block_bytes)
    grid.layout.store(packed, made.levels.reshape(-1, grid.block))
    return packed.reshape(len(made.levels), -1)

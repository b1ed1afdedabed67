"""Writes matrices that a technique has put on a grid into a graph, as MatMulNBits reads them.

Levels, scales and zero points are the technique's own. Embedding and head are stored in 8-bit
blocks as in the quantisation ``INT8``, matrices that are on no grid as float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.architectures import table
from pitool.checkpoint.config import Config
from pitool.checkpoint.source import Checkpoint
from pitool.convert.onnx.blocks import Bytes, Floats, even, pack
from pitool.convert.onnx.fused import supported
from pitool.convert.onnx.graph import Graph
from pitool.convert.onnx.weights import OnBytes, Part, Weights, with_optional
from pitool.convert.techniques.base import Grid
from pitool.planning.onnx_weights import OnnxQuantisation, padded_head

FindGrid = Callable[[str], Grid | None]


def unpackable(config: Config) -> str | None:
    """Return why grids of a checkpoint cannot be in a graph, None when they can."""
    if not supported(config):
        return f"the ONNX writer does not know {config.model_type!r} models"
    sizes = table.describe(config).sizes
    if padded_head(sizes.head_dim) != sizes.head_dim:
        return f"heads of {sizes.head_dim} would be padded, which moves the blocks"
    if sizes.hidden % 32:
        return f"rows of {sizes.hidden} are no whole blocks of 32"
    return None


class PackedWeights(Weights):
    """``Weights`` with the matrices that ``find`` knows; see there."""

    def __init__(
        self,
        graph: Graph,
        checkpoint: Checkpoint,
        kind: OnnxQuantisation,
        on_bytes: OnBytes,
        find: FindGrid,
    ) -> None:
        super().__init__(graph, checkpoint, kind, on_bytes)
        self._find_grid = find

    def matmul(self, value: str, name: str, parts: Sequence[Part], *, head: bool = False) -> str:
        """Write the matrices of all parts, one below the other; return the product's name."""
        if head:
            return super().matmul(value, name, parts, head=True)
        found = [self._find_grid(f"{part.module}.weight") for part in parts]
        grids = [grid for grid in found if grid]
        bias = self._bias(name, parts)
        if len(grids) < len(parts) or not joinable(grids):
            return self._float_matmul(value, name, self._floats(f"{name}.weight", parts), bias)
        bits = max(grid.bits for grid in grids)
        names = self._write(name, [widen(grid, bits) for grid in grids])
        rows, columns = sum(len(grid.levels) for grid in grids), grids[0].levels.shape[1]
        return self._graph.node(
            "MatMulNBits",
            with_optional([value, *names], 5, bias),
            name,
            N=rows,
            K=columns,
            bits=bits,
            block_size=grids[0].block,
            accuracy_level=4,
        )

    def _write(self, name: str, grids: Sequence[Grid]) -> list[str]:
        """Write levels, scales and, unless all are half of the range, zero points."""
        levels = np.concatenate([blocks_of(grid) for grid in grids])
        names = [self._whole(f"{name}.weight", levels)]
        scales = np.concatenate([grid.scales for grid in grids])
        names.append(self._whole(f"{name}.scales", scales.astype(np.float32)))
        if any(grid.zeros is not None for grid in grids):
            names.append(self._whole(f"{name}.zero_points", zeros_of(grids)))
        return names


def joinable(grids: Sequence[Grid]) -> bool:
    """Tell whether grids can be rows of one matrix: equal blocks, and bits that can be made so."""
    same_bits = len({grid.bits for grid in grids}) == 1
    same_block = len({grid.block for grid in grids}) == 1
    return same_block and (same_bits or not any(grid.between for grid in grids))


def widen(grid: Grid, bits: int) -> Grid:
    """Return the same values on a grid of more bits: levels and zeros move by the same amount."""
    if grid.bits == bits:
        return grid
    zeros = middle(grid) if grid.zeros is None else grid.zeros
    return Grid(grid.name, grid.levels, grid.scales, zeros, bits, grid.block)


def middle(grid: Grid) -> Bytes:
    """Return the zero points of a symmetric grid: half of the range."""
    return np.full(grid.scales.shape, 1 << (grid.bits - 1), np.uint8)


def blocks_of(grid: Grid) -> Bytes:
    """Return the packed levels, shape (rows, blocks, bytes a block); a short block gets zeros."""
    short = -grid.levels.shape[1] % grid.block
    levels = np.pad(grid.levels, ((0, 0), (0, short)))
    packed: Bytes = pack(levels.reshape(len(levels), -1, grid.block), grid.bits)
    return np.ascontiguousarray(packed)


def zeros_of(grids: Sequence[Grid]) -> NDArray[Any]:
    """Return the zero points of grids of the same bits: packed levels, or floats if any are."""
    all_ = [middle(grid) if grid.zeros is None else grid.zeros for grid in grids]
    if any(grid.between for grid in grids):
        floats: Floats = np.concatenate([zeros.astype(np.float32) for zeros in all_])
        return floats
    levels: Bytes = np.concatenate(all_).astype(np.uint8)
    bits = grids[0].bits
    return np.ascontiguousarray(pack(even(levels, bits), bits))

"""Writes a technique's integer matrices into a graph, as MatMulNBits reads them.

Levels, scales and zero points are the technique's own. Embedding and head are stored in 8-bit
blocks as in the quantisation ``INT8``, all other matrices in float32. Never rounds a value itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.architectures import table
from pitool.checkpoint.config import Config
from pitool.checkpoint.source import Checkpoint
from pitool.convert.lattice import Floats
from pitool.convert.onnx.blocks import Bytes, even, pack
from pitool.convert.onnx.fused import supported
from pitool.convert.onnx.graph import Graph
from pitool.convert.onnx.weights import OnBytes, Part, Weights, with_optional
from pitool.convert.techniques.rounding import IntegerMatrix
from pitool.planning.onnx_weights import OnnxQuantisation, padded_head

FindMatrix = Callable[[str], IntegerMatrix | None]


def unpackable(config: Config) -> str | None:
    """Return why a checkpoint's matrices cannot be packed into a graph, None when they can."""
    if not supported(config):
        return f"the ONNX writer does not support {config.model_type!r} models"
    sizes = table.describe(config).sizes
    if padded_head(sizes.head_dim) != sizes.head_dim:
        return f"heads of size {sizes.head_dim} would be padded, which would move the blocks"
    if sizes.hidden % 32:
        return f"rows of {sizes.hidden} are not a multiple of 32"
    return None


class PackedWeights(Weights):
    """``Weights`` with the integer matrices that ``find`` returns."""

    def __init__(
        self,
        graph: Graph,
        checkpoint: Checkpoint,
        kind: OnnxQuantisation,
        on_bytes: OnBytes,
        find: FindMatrix,
    ) -> None:
        super().__init__(graph, checkpoint, kind, on_bytes)
        self._find_matrix = find

    def matmul(self, value: str, name: str, parts: Sequence[Part], *, head: bool = False) -> str:
        """Write the matrices of all parts, stacked; return the name of the product."""
        if head:
            return super().matmul(value, name, parts, head=True)
        found = [self._find_matrix(f"{part.module}.weight") for part in parts]
        matrices = [matrix for matrix in found if matrix]
        bias = self._bias(name, parts)
        if len(matrices) < len(parts) or not joinable(matrices):
            return self._float_matmul(value, name, self._floats(f"{name}.weight", parts), bias)
        bits = max(matrix.bits for matrix in matrices)
        names = self._write(name, [widen(matrix, bits) for matrix in matrices])
        rows = sum(len(matrix.levels) for matrix in matrices)
        columns = matrices[0].levels.shape[1]
        return self._graph.node(
            "MatMulNBits",
            with_optional([value, *names], 5, bias),
            name,
            N=rows,
            K=columns,
            bits=bits,
            block_size=matrices[0].block,
            accuracy_level=4,
        )

    def _write(self, name: str, matrices: Sequence[IntegerMatrix]) -> list[str]:
        """Write levels, scales and, unless all lie in the middle of the range, zero points."""
        levels = np.concatenate([packed_levels(matrix) for matrix in matrices])
        names = [self._whole(f"{name}.weight", levels)]
        scales = np.concatenate([matrix.scales for matrix in matrices])
        names.append(self._whole(f"{name}.scales", scales.astype(np.float32)))
        if any(matrix.zeros is not None for matrix in matrices):
            names.append(self._whole(f"{name}.zero_points", packed_zeros(matrices)))
        return names


def joinable(matrices: Sequence[IntegerMatrix]) -> bool:
    """Tell whether matrices can be stacked into one: equal blocks, and bits that can be widened."""
    same_bits = len({matrix.bits for matrix in matrices}) == 1
    same_block = len({matrix.block for matrix in matrices}) == 1
    return same_block and (same_bits or not any(matrix.between for matrix in matrices))


def widen(matrix: IntegerMatrix, bits: int) -> IntegerMatrix:
    """Return the same values with more bits per level; the levels and zero points stay."""
    if matrix.bits == bits:
        return matrix
    zeros = middle(matrix) if matrix.zeros is None else matrix.zeros
    return IntegerMatrix(matrix.name, matrix.levels, matrix.scales, zeros, bits, matrix.block)


def middle(matrix: IntegerMatrix) -> Bytes:
    """Return the zero points of a symmetric matrix: the middle of the range."""
    return np.full(matrix.scales.shape, 1 << (matrix.bits - 1), np.uint8)


def packed_levels(matrix: IntegerMatrix) -> Bytes:
    """Return the packed levels (rows, blocks, bytes per block); a short block is zero-padded."""
    short = -matrix.levels.shape[1] % matrix.block
    levels = np.pad(matrix.levels, ((0, 0), (0, short)))
    packed: Bytes = pack(levels.reshape(len(levels), -1, matrix.block), matrix.bits)
    return np.ascontiguousarray(packed)


def packed_zeros(matrices: Sequence[IntegerMatrix]) -> NDArray[Any]:
    """Return the zero points of matrices of equal bits: packed levels, or floats if any are."""
    zeros = [middle(matrix) if matrix.zeros is None else matrix.zeros for matrix in matrices]
    if any(matrix.between for matrix in matrices):
        floats: Floats = np.concatenate([each.astype(np.float32) for each in zeros])
        return floats
    levels: Bytes = np.concatenate(zeros).astype(np.uint8)
    bits = matrices[0].bits
    return np.ascontiguousarray(pack(even(levels, bits), bits))

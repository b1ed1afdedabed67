"""Fills attention heads with zeros up to the size that GroupQueryAttention rotates."""

from __future__ import annotations

import numpy as np

from pitool.convert.lattice import Floats
from pitool.convert.onnx.weights import Arrange


def pad_halves(dim: int, padded: int) -> Arrange | None:
    """Return the padding of query and key rows: row i rotates with row i + half of the head."""
    return _pad_rows(2, dim // 2, padded // 2)


def pad_ends(dim: int, padded: int) -> Arrange | None:
    """Return the padding of value rows: zeros at the end of each head."""
    return _pad_rows(1, dim, padded)


def _pad_rows(runs: int, size: int, padded: int) -> Arrange | None:
    if size == padded:
        return None

    def arrange(rows: Floats) -> Floats:
        heads = rows.reshape(-1, runs, size, *rows.shape[1:])
        missing = [(0, 0)] * heads.ndim
        missing[2] = (0, padded - size)
        return np.pad(heads, missing).reshape(-1, *rows.shape[1:])

    return arrange


def pad_columns(dim: int, padded: int) -> Arrange | None:
    """Return the padding of the output projection's columns, to go with ``pad_ends``."""
    if dim == padded:
        return None

    def arrange(rows: Floats) -> Floats:
        heads = rows.reshape(len(rows), -1, dim)
        return np.pad(heads, ((0, 0), (0, 0), (0, padded - dim))).reshape(len(rows), -1)

    return arrange

"""Symmetric INT8: one scale per matrix, zero in the middle."""

from __future__ import annotations

import numpy as np

from pitool.convert.techniques.base import Technique
from pitool.convert.techniques.rounding import Floats, IntegerMatrix, per_row, row_block, symmetric
from pitool.convert.techniques.workbench import per_matrix


def quantise(name: str, rows: Floats) -> IntegerMatrix:
    """Return a matrix with levels from -127 to 127 and one scale."""
    reach = per_row(rows, float(np.abs(rows).max()))
    return symmetric(name, rows, reach, 8, row_block(rows.shape[1]))


TECHNIQUE = Technique(
    name="symmetric-int8",
    title="Symmetric INT8",
    effect="Rounds a matrix to 255 levels around zero, with a single scale.",
    source="Jacob et al. 2018 (arXiv:1712.05877); Krishnamoorthi 2018 (arXiv:1806.08342)",
    make=per_matrix(quantise),
    bits=8,
    kernel="onnxruntime",
)

"""Symmetric INT8: one scale a matrix, zero in the middle."""

from __future__ import annotations

import numpy as np

from pitool.convert.techniques.base import Floats, Grid, Technique
from pitool.convert.techniques.grids import row_block, symmetric, whole
from pitool.convert.techniques.workbench import each


def quantise(name: str, rows: Floats) -> Grid:
    """Return a matrix in levels from -127 to 127 of one scale."""
    reach = whole(rows, float(np.abs(rows).max()))
    return symmetric(name, rows, reach, 8, row_block(rows.shape[1]))


TECHNIQUE = Technique(
    name="symmetric-int8",
    title="Symmetric INT8",
    effect="Rounds a matrix to 255 levels around zero with one scale for all of it.",
    source="Jacob et al. 2018 (arXiv:1712.05877); Krishnamoorthi 2018 (arXiv:1806.08342)",
    make=each(quantise),
    bits=8,
    kernel="onnxruntime",
)

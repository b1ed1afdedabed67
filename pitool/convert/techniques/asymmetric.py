"""Asymmetric INT8: one scale and one zero point per matrix, from smallest to largest value."""

from __future__ import annotations

from pitool.convert.techniques.base import Technique
from pitool.convert.techniques.rounding import Floats, IntegerMatrix, asymmetric, per_row, row_block
from pitool.convert.techniques.workbench import per_matrix


def quantise(name: str, rows: Floats) -> IntegerMatrix:
    """Return a matrix with 256 levels, one scale and one zero point."""
    low, high = per_row(rows, float(rows.min())), per_row(rows, float(rows.max()))
    return asymmetric(name, rows, low, high, 8, row_block(rows.shape[1]))


TECHNIQUE = Technique(
    name="asymmetric-int8",
    title="Asymmetric INT8",
    effect="Rounds a matrix to 256 levels between its smallest and largest value, including zero.",
    source="Jacob et al. 2018 (arXiv:1712.05877)",
    make=per_matrix(quantise),
    bits=8,
    kernel="onnxruntime",
)

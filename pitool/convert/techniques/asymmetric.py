"""Asymmetric INT8: one scale and one zero point a matrix, from smallest to largest value."""

from __future__ import annotations

from pitool.convert.techniques.base import Floats, Grid, Technique
from pitool.convert.techniques.grids import asymmetric, row_block, whole
from pitool.convert.techniques.workbench import each


def quantise(name: str, rows: Floats) -> Grid:
    """Return a matrix in 256 levels of one scale and zero point."""
    low, high = whole(rows, float(rows.min())), whole(rows, float(rows.max()))
    return asymmetric(name, rows, low, high, 8, row_block(rows.shape[1]))


TECHNIQUE = Technique(
    name="asymmetric-int8",
    title="Asymmetric INT8",
    effect="Rounds a matrix to 256 levels between its smallest and largest value, zero among them.",
    source="Jacob et al. 2018 (arXiv:1712.05877)",
    make=each(quantise),
    bits=8,
    kernel="onnxruntime",
)

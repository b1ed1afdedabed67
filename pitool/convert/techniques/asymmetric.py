"""Asymmetric INT8: one scale and one zero point a matrix, from smallest to largest value."""

from __future__ import annotations

from collections.abc import Iterator

from pitool.convert.techniques.base import Floats, Grid, Technique
from pitool.convert.techniques.grids import asymmetric, row_block, whole
from pitool.convert.techniques.workbench import Workbench


def quantise(name: str, rows: Floats) -> Grid:
    """Return a matrix in 256 levels of one scale and zero point."""
    low, high = whole(rows, float(rows.min())), whole(rows, float(rows.max()))
    return asymmetric(name, rows, low, high, 8, row_block(rows.shape[1]))


def make(bench: Workbench) -> Iterator[Grid]:
    """Yield every matrix of the layers."""
    return (quantise(name, rows) for name, rows in bench.weights())


TECHNIQUE = Technique(
    name="asymmetric-int8",
    title="Asymmetric INT8",
    effect="Rounds a matrix to 256 levels between its smallest and largest value, zero among them.",
    source="Jacob et al. 2018 (arXiv:1712.05877)",
    make=make,
    bits=8,
    kernel="onnxruntime",
)

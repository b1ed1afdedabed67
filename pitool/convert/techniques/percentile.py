"""Percentile INT8: the few largest weights are clipped, which leaves finer levels for the rest."""

from __future__ import annotations

import numpy as np

from pitool.convert.techniques.base import Technique
from pitool.convert.techniques.rounding import Floats, IntegerMatrix, per_row, row_block, symmetric
from pitool.convert.techniques.workbench import per_matrix

PERCENTILE = 99.999
BINS = 2048


def reach(rows: Floats, percentile: float = PERCENTILE) -> float:
    """Return a percentile of the weights' magnitudes, from a histogram.

    It is the upper edge of a bin: accurate to 1 / 2048 of the largest magnitude.
    """
    magnitudes = np.abs(rows)
    counts, edges = np.histogram(magnitudes, BINS, (0, float(magnitudes.max()) or 1.0))
    enough = np.cumsum(counts) >= percentile / 100 * rows.size
    return float(edges[1:][np.argmax(enough)])


def quantise(name: str, rows: Floats, percentile: float = PERCENTILE) -> IntegerMatrix:
    """Return a matrix in levels from -127 to 127 up to the percentile, clipped beyond."""
    return symmetric(
        name, rows, per_row(rows, reach(rows, percentile)), 8, row_block(rows.shape[1])
    )


TECHNIQUE = Technique(
    name="percentile-int8",
    title=f"Percentile INT8, {PERCENTILE:g}%",
    effect=f"Clips a matrix at its {PERCENTILE:g}th percentile, then uses one scale for all of it.",
    source="Migacz 2017 (NVIDIA, 8-bit inference with TensorRT); Wu et al. 2020 (arXiv:2004.09602)",
    make=per_matrix(quantise),
    bits=8,
    kernel="onnxruntime",
)

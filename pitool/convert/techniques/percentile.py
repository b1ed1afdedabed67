"""Percentile INT8: the few largest weights are clipped, so that the others get finer levels."""

from __future__ import annotations

import numpy as np

from pitool.convert.techniques.base import Floats, Grid, Technique
from pitool.convert.techniques.grids import row_block, symmetric, whole
from pitool.convert.techniques.workbench import each

PERCENTILE = 99.999
BINS = 2048


def reach(rows: Floats, percentile: float = PERCENTILE) -> float:
    """Return the magnitude that so many per cent of the weights do not exceed, by a histogram.

    The bin's upper edge: within 1 / 2048 of the largest magnitude.
    """
    magnitudes = np.abs(rows)
    counts, edges = np.histogram(magnitudes, BINS, (0, float(magnitudes.max()) or 1.0))
    enough = np.cumsum(counts) >= percentile / 100 * rows.size
    return float(edges[1:][np.argmax(enough)])


def quantise(name: str, rows: Floats, percentile: float = PERCENTILE) -> Grid:
    """Return a matrix in levels from -127 to 127 up to the percentile, clipped beyond."""
    return symmetric(name, rows, whole(rows, reach(rows, percentile)), 8, row_block(rows.shape[1]))


TECHNIQUE = Technique(
    name="percentile-int8",
    title=f"Percentile INT8, {PERCENTILE:g} %",
    effect=f"Clips a matrix beyond {PERCENTILE:g} % of it, one scale for what is left.",
    source="Migacz 2017 (NVIDIA, 8-bit inference with TensorRT); Wu et al. 2020 (arXiv:2004.09602)",
    make=each(quantise),
    bits=8,
    kernel="onnxruntime",
)

"""k-means: each matrix has a codebook of 16 or 256 values, and each weight stores an index.

Lloyd's algorithm in one dimension: with sorted centroids an iteration is a binary search and a
sum. No runtime has a kernel for it.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from pitool.convert.techniques.base import Technique
from pitool.convert.techniques.rounding import Floats, FloatTensor
from pitool.convert.techniques.workbench import per_matrix

ITERATIONS = 200
BINS = 4096
# The codebook is fitted to evenly spaced weights; all weights are assigned to it.
MOST_WEIGHTS = 1 << 20


def codebook(values: Floats, count: int) -> Floats:
    """Return ``count`` sorted centroids at a local minimum of the squared error.

    The better of two initialisations: equally spaced values, which cover the tails (Han et al.),
    and the optimal density for many levels, the cube root of the values' own density (Panter and
    Dite 1951).
    """
    sample = np.sort(values.ravel()[:: -(-values.size // MOST_WEIGHTS)].astype(np.float64))
    counts, edges = np.histogram(sample, BINS)
    mass = np.concatenate([[0.0], np.cumsum(np.cbrt(counts))])
    dense = np.interp((np.arange(count) + 0.5) / count * mass[-1], mass, edges)
    evenly = np.linspace(sample[0], sample[-1], count)
    tried = [_lloyd(sample, beginning).astype(np.float32) for beginning in (evenly, dense)]
    losses = [float(((assign(sample, found) - sample) ** 2).sum()) for found in tried]
    return tried[int(np.argmin(losses))]


def _lloyd(sample: NDArray[np.float64], centroids: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sorted centroids after convergence, or after ``ITERATIONS``."""
    sums = np.concatenate([[0.0], np.cumsum(sample)])
    for _ in range(ITERATIONS):
        borders = np.searchsorted(sample, (centroids[1:] + centroids[:-1]) / 2)
        first, last = np.concatenate([[0], borders]), np.concatenate([borders, [len(sample)]])
        counts = last - first
        means = (sums[last] - sums[first]) / np.maximum(counts, 1)
        moved: NDArray[np.float64] = np.sort(np.where(counts > 0, means, centroids))
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return centroids


def assign(values: NDArray[np.floating], centroids: Floats) -> Floats:
    """Return each value's nearest centroid, in the values' shape."""
    found = np.searchsorted((centroids[1:] + centroids[:-1]) / 2, values)
    nearest: Floats = centroids[found]
    return nearest


def quantise(name: str, rows: Floats, bits: int) -> FloatTensor:
    """Return a matrix with a codebook of 2 ** bits values; its bytes are indices and codebook."""
    centroids = codebook(rows, 1 << bits)
    return FloatTensor(name, assign(rows, centroids), -(-rows.size * bits // 8) + 4 * (1 << bits))


def _row(bits: int) -> Technique:
    return Technique(
        name=f"kmeans-{bits}bit",
        title=f"k-means {bits} bits",
        effect=f"Replaces each weight with the nearest of {1 << bits} values per matrix.",
        source="Han et al. 2016, Deep Compression (arXiv:1510.00149)",
        make=per_matrix(partial(quantise, bits=bits)),
        bits=bits,
        note="no kernel: evaluated with dequantised weights",
    )


FOUR, EIGHT = _row(4), _row(8)

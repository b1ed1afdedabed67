"""Embedding and head with error feedback: matrices of a row for each token, at a walk's ends.

What the embedding loses, all layers make up for. A head of its own comes last and makes up for
them; one that is the embedding is rounded before the walk, for its inputs in the float model.
Owns these two matrices. What is between them is ``layerwise``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.checkpoint.tensors import Tensor, to_float32
from pitool.convert import feedback
from pitool.convert.calibrated_layer import Hidden
from pitool.convert.effort import Effort
from pitool.convert.feedback import Grid, Levels
from pitool.convert.lattice import Floats
from pitool.convert.numpy_forward import Forward
from pitool.convert.propagation import Correction, Inputs, Moments
from pitool.report.progress import Progress

# Tokens that the float model reads for a head that is rounded before the walk. Of twice as many
# little more is learnt of so few columns.
TOKENS = 4096
# A second sweep changes little where nothing makes up for errors later.
SWEEPS = 1
SLAB = 32 << 20

Made = tuple[str, Levels]
GridOf = Callable[[str, tuple[int, ...]], Grid | None]
"""Returns the grid of a matrix by its name and shape, None for one that is not rounded."""


def embed(
    forward: Forward,
    windows: Sequence[Sequence[int]],
    effort: Effort,
    grid_of: GridOf,
    progress: Progress,
    *,
    tied: bool,
) -> tuple[Made | None, list[Hidden]]:
    """Return the embedding as it is rounded, None where it is not, and the first layer's inputs.

    ``tied``: it is the head as well.
    """
    name, table = forward.embedding
    exact = [forward.embed(window) for window in windows]
    grid = grid_of(name, table.shape)
    if grid is None:
        return None, [Hidden(x, x) for x in exact]
    count, columns = table.shape
    progress.stage("rounding the embedding", count)
    hessian = _head_hessian(forward, exact) if tied else np.zeros((columns, columns), np.float32)
    read = np.unique([i for window in windows for i in window])
    made, rows = _round(table, hessian, grid, effort, progress, read=read)
    rounded = (forward.embed(window, rows[np.searchsorted(read, window)]) for window in windows)
    return (name, made), [Hidden(x, y) for x, y in zip(exact, rounded, strict=True)]


def round_head(
    forward: Forward,
    hidden: Sequence[Hidden],
    effort: Effort,
    grid_of: GridOf,
    progress: Progress,
) -> Iterator[Made]:
    """Yield a head that is not the embedding as it is rounded, unless it has no grid.

    ``hidden``: what the last layer makes of the text.
    """
    name, table = forward.head
    if grid := grid_of(name, table.shape):
        progress.stage("rounding the head", table.shape[0])
        inputs = Inputs.of(_moments(forward, hidden))
        corrected = Correction(inputs).corrected
        made, _ = _round(table, inputs.hessian, grid, effort, progress, corrected=corrected)
        yield name, made


def _moments(forward: Forward, hidden: Sequence[Hidden]) -> Iterator[Moments]:
    """Yield what flows into the head in each window."""
    tokens = sum(len(each.rounded) for each in hidden)
    for each in hidden:
        yield Moments.of(forward.final(each.rounded), forward.final(each.exact), tokens)


def _head_hessian(forward: Forward, embedded: Sequence[Floats]) -> Floats:
    """Return the mean of x x^T over the head's inputs x in the float model."""
    count = max(TOKENS * len(embedded) // max(sum(map(len, embedded)), 1), 1)
    hidden = list(embedded[:: -(-len(embedded) // count)])
    for i in range(forward.layers):
        weights = forward.weights(i)
        hidden = [forward.layer(i, weights, x) for x in hidden]
    final = np.concatenate([forward.final(x) for x in hidden])
    found: Floats = final.T @ (final * np.float32(1 / len(final)))
    return found


def _round(
    table: Tensor,
    hessian: Floats,
    grid: Grid,
    effort: Effort,
    progress: Progress,
    *,
    corrected: Callable[[Floats], Floats] = lambda rows: rows,
    read: NDArray[np.intp] | None = None,
) -> tuple[Levels, Floats]:
    """Return a table as it is rounded, and the weights of the rows ``read``, ascending.

    No row depends on another, so that it goes slab by slab: all weights of a large vocabulary would
    take gigabytes.
    """
    wide, sweeps = feedback.damped(hessian), min(effort.sweeps, SWEEPS)
    asked = np.empty(0, np.intp) if read is None else read
    levels, begin = np.empty(table.shape, np.uint8), 0
    stored: list[NDArray[Any]] = []
    values: list[Floats] = []
    for slab in table.slabs(SLAB):
        end = begin + len(slab)
        made = feedback.quantise(corrected(to_float32(slab, table.kind)), wide, grid, sweeps)
        levels[begin:end] = made.levels
        stored.append(made.stored)
        values.append(made.values[asked[(asked >= begin) & (asked < end)] - begin])
        progress.advance(len(slab))
        begin = end
    return Levels(levels, np.concatenate(stored)), np.concatenate(values)

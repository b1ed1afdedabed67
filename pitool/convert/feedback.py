"""Error feedback: what rounding a column loses, the columns after it make up for.

For inputs with the Hessian H the outputs of a matrix change by tr(E H E^T), E being what each
weight lost. With H = M D M^T, M unit upper triangular, that is the sum of D y^2 with y = E M: a
column is best rounded where its y is least, which is at its own weight plus what M says of the
errors before it (LDLQ: Chee et al. 2023, arXiv:2307.13304, who show that it is GPTQ, Frantar et al.
2022, arXiv:2210.17323, without the inverse). D also says how much the columns of a block matter to
its scales, which are searched for when its turn comes.

Columns are taken in descending order of H's diagonal (act order) as far as a grid allows: block by
block, and within a block one by one. Knows no format; what a block may hold is its ``Grid``'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pitool.convert.lattice import Floats, inverse_of
from pitool.convert.massive import capped

Bytes = NDArray[np.uint8]
Wide = NDArray[np.float64]
# Of the typical value of the Hessian's diagonal, added to it. GPTQ's 0.01 is for 260,000 tokens;
# with a few thousand, which a laptop has time for, it gains on these and loses on every other text.
DAMPING = 0.5
# Columns whose errors go to those after them one by one; then all together.
LAZY = 32


@dataclass(frozen=True, slots=True)
class Steps:
    """What the weights of a block may be: a level's value times a scale, plus an offset.

    ``scales`` and ``offsets`` (columns, rows), None for no offsets; ``values``: of the levels,
    ascending; ``even``: they are one apart. ``stored``: the scales as the format has them,
    (rows, ...).
    """

    scales: Floats
    offsets: Floats | None
    values: Floats
    even: bool
    stored: NDArray[Any]

    def nearest(self, column: int, wanted: Floats, inverse: Floats) -> Bytes:
        """Return the levels nearest to what is wanted of a column, (rows,).

        ``inverse``: of the column's scales.
        """
        level: Floats = (
            wanted if self.offsets is None else wanted - self.offsets[column]
        ) * inverse
        if not self.even:
            middles = (self.values[1:] + self.values[:-1]) / 2
            found: Bytes = np.searchsorted(middles, level).astype(np.uint8)
            return found
        level -= self.values[0]
        np.rint(level, out=level)
        np.clip(level, 0, len(self.values) - 1, out=level)
        return level.astype(np.uint8)

    def weights(self, column: int, levels: Bytes) -> Floats:
        """Return what levels of a column stand for, (rows,)."""
        made: Floats = self.values[levels] * self.scales[column]
        return made if self.offsets is None else made + self.offsets[column]


class Grid(Protocol):
    """A format: ``block`` columns of a row are stored together."""

    @property
    def block(self) -> int:
        """The number of columns."""

    def steps(self, rows: Floats, importance: Floats) -> Steps:
        """Return the steps for a block (rows, block), whose columns matter so much, (block,)."""

    def nearest(self, rows: Floats, importance: Floats) -> Floats:
        """Return a matrix (rows, columns) as the format's own quantiser would have it."""


@dataclass(frozen=True, slots=True)
class Levels:
    """A matrix as a format stores it.

    ``levels`` (rows, columns); ``stored`` (rows, blocks, ...): the scales of each block as its
    format has them.
    """

    levels: Bytes
    stored: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Rounded(Levels):
    """A matrix as a grid has it; ``values`` (rows, columns): the weights that its levels are."""

    values: Floats


@dataclass(frozen=True, slots=True)
class Factor:
    """A damped Hessian H[order][:, order] = M D M^T: ``feedback`` is M, ``weights`` D.

    ``order``: the columns as they are rounded.
    """

    order: NDArray[np.intp]
    feedback: Floats
    weights: Floats


def damped(hessian: Floats, damping: float = DAMPING) -> Wide:
    """Return a Hessian with a share of its typical diagonal added; columns without input matter so.

    That is the mean, without what massive activations make of it.
    """
    wide = hessian.astype(np.float64)
    typical = float(capped(np.diag(wide)).mean())
    wide[np.diag_indices_from(wide)] += damping * typical if typical > 0 else 1.0
    return wide


def order_of(diagonal: NDArray[Any], block: int) -> NDArray[np.intp]:
    """Return the columns, the most important first: blocks by their mean, then within each."""
    blocks = diagonal.reshape(-1, block)
    within = np.argsort(-blocks, axis=1, kind="stable")
    first = np.argsort(-blocks.mean(1), kind="stable")
    return (within + np.arange(len(blocks))[:, None] * block)[first].ravel()


def factorise(hessian: Wide, block: int) -> Factor:
    """Return the factor of a Hessian that is damped already; ``block``: columns of the grid's."""
    order = order_of(np.diag(hessian), block)
    backwards = order[::-1]
    lower = np.linalg.cholesky(hessian[np.ix_(backwards, backwards)])
    upper = lower[::-1, ::-1]
    diagonal = np.diag(upper).copy()
    return Factor(order, (upper / diagonal).astype(np.float32), (diagonal**2).astype(np.float32))


def quantise(rows: Floats, hessian: Wide, grid: Grid, sweeps: int = 0) -> Rounded:
    """Return a matrix (rows, columns) on a grid, for inputs with a damped Hessian.

    ``sweeps``: how often all blocks are rounded anew with all others as they are, which ends in
    fewer errors where they fall short (block coordinate descent). Columns: a multiple of
    ``grid.block``.
    """
    factor = factorise(hessian, grid.block)
    rounded = _first(rows, factor, grid)
    if sweeps:
        half = hessian.astype(np.float32)
        for _ in range(sweeps):
            rounded = _sweep(rows, half, grid, rounded)
    return rounded


def loss(rows: Floats, values: Floats, hessian: NDArray[Any]) -> float:
    """Return the change of the outputs, tr(E H E^T), summed over the rows."""
    errors = (rows - values).astype(hessian.dtype)
    return float(np.einsum("ij,ij->", errors @ hessian, errors))


def _first(rows: Floats, factor: Factor, grid: Grid) -> Rounded:
    """Round all blocks once, each with the errors of those before it."""
    columns, block = rows.shape[1], grid.block
    errors = np.zeros((columns, len(rows)), np.float32)  # in the order of rounding
    made = _Empty.of(rows.shape, block)
    for first in range(0, columns, block):
        here = slice(first, first + block)
        order = factor.order[here]
        origin = np.ascontiguousarray(rows[:, order].T)
        target = origin + factor.feedback[:first, here].T @ errors[:first]
        at = int(order.min())
        inner = order - at
        steps = _searched(grid, target, factor.weights[here], inner)
        levels, values = _round(target, origin, _taken(steps, inner), factor.feedback[here, here])
        errors[here] = origin - values
        made.keep(at, inner, steps, levels, values)
    return made.rounded()


def _searched(grid: Grid, target: Floats, weights: Floats, inner: NDArray[np.intp]) -> Steps:
    """Return the steps of a block whose columns come in the order of rounding."""
    natural, importance = np.empty_like(target), np.empty_like(weights)
    natural[inner], importance[inner] = target, weights
    return grid.steps(np.ascontiguousarray(natural.T), importance)


def _taken(steps: Steps, order: NDArray[np.intp]) -> Steps:
    """Return the steps of a block in another order of its columns."""
    offsets = None if steps.offsets is None else steps.offsets[order]
    return Steps(steps.scales[order], offsets, steps.values, steps.even, steps.stored)


def _round(target: Floats, origin: Floats, steps: Steps, feedback: Floats) -> tuple[Bytes, Floats]:
    """Round the columns of a block in order; return levels and weights, (columns, rows).

    ``target``: the weights with the errors of the blocks before, which is used up; ``origin``:
    what errors are counted from; ``feedback`` (columns, columns).
    """
    columns = len(target)
    levels, values = np.empty(target.shape, np.uint8), np.empty_like(target)
    errors = np.empty_like(target)
    inverse = inverse_of(steps.scales)
    for begin in range(0, columns, LAZY):
        end = min(begin + LAZY, columns)
        for i in range(begin, end):
            levels[i] = steps.nearest(i, target[i], inverse[i])
            values[i] = steps.weights(i, levels[i])
            np.subtract(origin[i], values[i], out=errors[i])
            target[i + 1 : end] += feedback[i, i + 1 : end, None] * errors[i]
        target[end:] += feedback[begin:end, end:].T @ errors[begin:end]
    return levels, values


@dataclass(frozen=True, slots=True)
class _Empty:
    """A matrix that is being rounded, block by block; blocks lie one behind the other."""

    levels: Bytes
    stored: dict[int, NDArray[Any]]
    values: Floats
    block: int

    @classmethod
    def of(cls, shape: tuple[int, ...], block: int) -> _Empty:
        backwards = shape[::-1]
        return cls(np.empty(backwards, np.uint8), {}, np.empty(backwards, np.float32), block)

    def keep(
        self, at: int, inner: NDArray[np.intp], steps: Steps, levels: Bytes, values: Floats
    ) -> None:
        """Keep the block that begins at a column, whose columns come in the order ``inner``."""
        self.levels[at + inner] = levels
        self.values[at + inner] = values
        self.stored[at] = steps.stored

    def rounded(self) -> Rounded:
        stored = np.stack([self.stored[at] for at in sorted(self.stored)], axis=1)
        return Rounded(
            np.ascontiguousarray(self.levels.T), stored, np.ascontiguousarray(self.values.T)
        )


def _sweep(rows: Floats, hessian: Floats, grid: Grid, rounded: Rounded) -> Rounded:
    """Round each block anew for what all others have lost, and keep what is better in each row."""
    levels, values = rounded.levels.T.copy(), rounded.values.T.copy()
    origin, stored = np.ascontiguousarray(rows.T), rounded.stored.copy()
    errors = origin - values
    pull = hessian @ errors
    for at in range(0, len(origin), grid.block):
        here = slice(at, at + grid.block)
        own = hessian[here, here]
        others = pull[here] - own @ errors[here]
        wide = own.astype(np.float64)
        target = origin[here] + np.linalg.solve(wide, others).astype(np.float32)
        before, best = values[here].copy(), _losses(target, values[here], own)
        made = _anew(grid, target, wide)
        less = made.loss < best
        levels[here][:, less] = made.levels[:, less]
        values[here][:, less] = made.values[:, less]
        stored[less, at // grid.block] = made.stored[less]
        changed = before - values[here]
        errors[here] += changed
        pull += hessian[:, here] @ changed
    return Rounded(np.ascontiguousarray(levels.T), stored, np.ascontiguousarray(values.T))


@dataclass(frozen=True, slots=True)
class _Block:
    """A block rounded anew: levels and values (columns, rows), scales and loss of each row."""

    levels: Bytes
    values: Floats
    stored: NDArray[Any]
    loss: Floats


def _anew(grid: Grid, target: Floats, hessian: Wide) -> _Block:
    """Round a block for its target (columns, rows), with scales searched anew."""
    factor = factorise(hessian, grid.block)
    steps = _searched(grid, target[factor.order], factor.weights, factor.order)
    wanted = target[factor.order]
    levels, values = _round(wanted.copy(), wanted, _taken(steps, factor.order), factor.feedback)
    back = np.argsort(factor.order)
    levels, values = levels[back], values[back]
    lost = _losses(target, values, hessian.astype(np.float32))
    return _Block(levels, values, steps.stored, lost)


def _losses(target: Floats, values: Floats, hessian: Floats) -> Floats:
    """Return the loss of each row of a block, (rows,); all else (columns, rows)."""
    errors = target - values
    found: Floats = np.einsum("ij,ij->j", hessian @ errors, errors)
    return found

"""AWQ folded away: columns that matter are scaled up before rounding, and their inputs down.

The inverse scales go into what gives the input: a norm, or the rows of the matrix before. The
model computes the same, and no runtime sees that anything was done (Lin et al. 2023,
arXiv:2306.00978). Where a model's graph allows it is told by its description; a scale is searched
for among powers of how much its column matters. Never rounds what it returns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pitool.architectures.description import Description
from pitool.convert.feedback import Grid
from pitool.convert.lattice import Floats

POWERS = np.linspace(0, 0.5, 11)
# Of a matrix, that scales are tried on.
SAMPLE_ROWS = 256
# No column is scaled by more than this, or its inverse.
MOST = 64.0


@dataclass(frozen=True, slots=True)
class Fold:
    """Matrices that share an input, and ``before``: the module that gives it.

    That is a norm, which adds ``offset`` to its weights, or a matrix: then its rows from ``first``
    on, each of which gives ``heads`` of the input's columns: those of so many query heads.
    """

    matrices: tuple[str, ...]
    before: str
    norm: bool = False
    offset: float = 0.0
    biased: bool = False
    first: int = 0
    heads: int = 1
    head_dim: int = 1

    @property
    def into(self) -> str:
        """What the inverse scales go into, in a word."""
        if self.norm:
            return "norms"
        return "the MLP" if self.heads == self.head_dim == 1 else "values"

    @property
    def vectors(self) -> tuple[str, ...]:
        """The vectors that change: a norm's, and biases of what gives the input."""
        bias = (f"{self.before}.bias",) if self.biased else ()
        return (f"{self.before}.weight", *bias) if self.norm else bias


def folds_of(model: Description, layer: int) -> tuple[Fold, ...]:
    """Return what can be folded in a layer, in the order of the data; nothing where nothing can."""
    if model.layout.transposed or model.altup or model.layout.by_head:
        return ()
    attends = layer not in model.recurrent and model.lender(layer) == layer
    return (*(_attention(model, layer) if attends else ()), *_mlp(model, layer))


def _attention(model: Description, layer: int) -> Iterator[Fold]:
    layout, sizes, dim = model.layout, model.sizes, model.head_dim(layer)
    shared = model.parallel and not layout.before_mlp  # the MLP reads the same norm
    if layout.before_attention and not shared:
        names = (layout.qkv,) if layout.qkv else (layout.query, layout.key, layout.value)
        yield _after_norm(model, layout.before_attention, names)
    if not model.value_norm:
        yield Fold(
            (layout.output,),
            layout.qkv or layout.value,
            biased=model.biases.qkv,
            first=(sizes.heads + sizes.kv_heads) * dim if layout.qkv else 0,
            heads=sizes.heads // sizes.kv_heads,
            head_dim=dim,
        )


def _mlp(model: Description, layer: int) -> Iterator[Fold]:
    layout = model.layout
    if model.routed(layer):
        return
    gated = bool(layout.gate or layout.gate_up)
    if layout.before_mlp:
        names = (layout.gate_up,) if layout.gate_up else (layout.gate, layout.up)
        yield _after_norm(model, layout.before_mlp, tuple(filter(None, names)))
    if gated:
        first = model.feed_forward(layer) if layout.gate_up else 0
        yield Fold(
            (layout.down,), layout.gate_up or layout.up, biased=model.biases.mlp, first=first
        )


def _after_norm(model: Description, before: str, matrices: tuple[str, ...]) -> Fold:
    norm = model.norm
    return Fold(matrices, before, norm=True, offset=norm.offset, biased=norm.layer)


def search(
    fold: Fold, weights: Mapping[str, Floats], importance: Floats, grids: Sequence[Grid]
) -> Floats:
    """Return the scale of each column of a fold's matrices, (columns,).

    ``importance`` (columns,): what a column's squared error costs; ``grids``: of the matrices.
    """
    found = [weights[f"{name}.weight"] for name in fold.matrices]
    rows = [each[:: max(len(each) // SAMPLE_ROWS, 1)] for each in found]
    best, least = np.ones_like(importance), np.inf
    for power in POWERS:
        scales = _scales(fold, importance, float(power))
        cost = importance / scales**2
        lost = sum(
            float((((grid.nearest(part * scales, cost) - part * scales) ** 2) @ cost).sum())
            for part, grid in zip(rows, grids, strict=True)
        )
        if lost < least:
            best, least = scales, lost
    return best


def _scales(fold: Fold, importance: Floats, power: float) -> Floats:
    """Return a power of the importance around 1, the same for columns that one row gives."""
    logarithms = power * np.log(np.maximum(importance, np.finfo(np.float32).tiny))
    if fold.heads > 1:
        by_head = logarithms.reshape(-1, fold.heads, fold.head_dim)
        logarithms = np.broadcast_to(by_head.mean(1, keepdims=True), by_head.shape).ravel()
    middle = (logarithms.max() + logarithms.min()) / 2
    scales: Floats = np.exp(logarithms - middle).astype(np.float32)
    return np.clip(scales, 1 / MOST, MOST)


def apply(fold: Fold, weights: dict[str, Floats], scales: Floats) -> list[str]:
    """Scale a fold's matrices and what gives their input; return the names of what changed."""
    changed = [f"{name}.weight" for name in fold.matrices]
    for name in changed:
        weights[name] = weights[name] * scales
    name = f"{fold.before}.weight"
    names = [name, *([f"{fold.before}.bias"] if fold.biased else ())]
    for each in names:
        offset = np.float32(fold.offset if each == name else 0)
        inverse = np.float32(1) / (scales if fold.norm else _of_rows(fold, scales))
        weights[each] = _divided(weights[each], inverse, offset, fold.first)
    return [*changed, *names]


def _of_rows(fold: Fold, scales: Floats) -> Floats:
    """Return the scale of each row that gives an input; heads of a group have the same."""
    if fold.heads == 1:
        return scales
    return scales.reshape(-1, fold.heads, fold.head_dim)[:, 0].ravel()


def _divided(values: Floats, inverse: Floats, offset: np.float32, first: int) -> Floats:
    made = values.copy()
    here = made[first : first + len(inverse)]
    factor = inverse if made.ndim == 1 else inverse[:, None]
    here[...] = (here + offset) * factor - offset
    return made

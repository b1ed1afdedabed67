"""Rounds a checkpoint layer by layer, each for the inputs that the rounded layers before it give.

The calibration text runs through the float model and through what was rounded already; a matrix
also makes up for what lies between the two where it stands. Memory: one layer, the Hessians of its
inputs, and the hidden states of both.

Owns the walk and where it can be resumed. What is rounded to what, and kept where, is the caller's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pitool.architectures import table
from pitool.architectures.description import Description
from pitool.checkpoint.config import GGUF, Config
from pitool.checkpoint.source import Checkpoint
from pitool.convert import feedback, folding, vocabulary_rows
from pitool.convert.calibrated_layer import Hidden, Layer, same
from pitool.convert.effort import Effort
from pitool.convert.feedback import Grid, Levels
from pitool.convert.lattice import Floats
from pitool.convert.numpy_forward import Forward, incomputable
from pitool.convert.propagation import Correction
from pitool.report.progress import Progress

STATE = "walk.npz"
Made = tuple[str, Levels | Floats]
"""The name of a tensor, and the matrix that it was rounded to, or the values that it has now."""


class Format(Protocol):
    """What a checkpoint is rounded to."""

    def grid(self, name: str, shape: tuple[int, ...]) -> Grid | None:
        """Return the grid of a matrix; None for one that is not rounded here."""

    def holds(self, name: str) -> bool:
        """Tell whether a vector is stored as it is, so that it may have other values."""


def unwalkable(config: Config) -> str:
    """Return why a checkpoint's layers cannot be walked one by one; empty where they can."""
    if config.model_type == GGUF:
        return "a GGUF is no checkpoint whose layers can be computed"
    if table.find(config.model_type) is None:
        return f"pitool has no forward pass of {config.model_type!r} models"
    return hindrance(table.describe(config))


def hindrance(model: Description) -> str:
    """Return what of a model hinders a walk over its layers; empty for nothing."""
    if what := incomputable(model):
        return f"{what} is not supported"
    # What a layer takes from others is kept for one text at a time.
    if model.altup or model.borrowing or model.layer_inputs:
        return "its layers take more than the layer before them gives"
    return "its matrices are stored with inputs first" if model.layout.transposed else ""


class State:
    """The input of a layer, in a folder; a walk that is broken off goes on from there.

    After the last layer comes the head, and after the head nothing, with no input.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / STATE

    def load(self) -> tuple[int, list[Hidden]] | None:
        """Return the layer and its input; None where there is nothing."""
        if not self._path.is_file():
            return None
        with np.load(self._path, allow_pickle=False) as found:  # noqa: TID251 - written below
            windows = range(int(found["windows"]))
            hidden = [Hidden(found[f"exact{i}"], found[f"rounded{i}"]) for i in windows]
            return int(found["layer"]), hidden

    def save(self, layer: int, hidden: Sequence[Hidden]) -> None:
        """Keep the input of a layer, in place of that of the layer before."""
        arrays: dict[str, NDArray[Any]] = {}
        for i, each in enumerate(hidden):
            arrays |= {f"exact{i}": each.exact, f"rounded{i}": each.rounded}
        partial = self._path.with_suffix(".partial.npz")
        np.savez(partial, allow_pickle=False, layer=layer, windows=len(hidden), **arrays)
        partial.replace(self._path)


def walk(
    checkpoint: Checkpoint,
    windows: Sequence[Sequence[int]],
    effort: Effort,
    format_: Format,
    state: State,
    progress: Progress,
) -> Iterator[Made]:
    """Yield every matrix that has a grid, rounded, and every tensor that scales were folded into.

    Those of a layer are complete when the first of the next one is asked for; then the walk can be
    resumed there.
    """
    forward, model = Forward(checkpoint), table.describe(checkpoint.config)
    if there := state.load():
        first, hidden = there
    else:
        embedding, hidden = vocabulary_rows.embed(
            forward, windows, effort, format_.grid, progress, tied=model.tied
        )
        if embedding:
            yield embedding
        first = 0
        state.save(first, hidden)
    progress.stage("rounding with error feedback", forward.layers)
    if first:
        progress.advance(min(first, forward.layers))
    for i in range(first, forward.layers):
        layer = Layer(forward, model, i, hidden)
        yield from _round(layer, model, effort, format_)
        hidden = layer.outputs()
        state.save(i + 1, hidden)
        progress.advance(1)
    if not model.tied and first <= forward.layers:
        yield from vocabulary_rows.round_head(forward, hidden, effort, format_.grid, progress)
    state.save(forward.layers + 1, [])


def _round(layer: Layer, model: Description, effort: Effort, format_: Format) -> Iterator[Made]:
    """Fold scales into a layer, and round its matrices in the order of the data."""
    grids = {
        name.removesuffix(".weight"): grid
        for name, values in layer.floats.items()
        if values.ndim == 2 and name.endswith(".weight")
        and (grid := format_.grid(layer.prefix + name, values.shape))
    }  # fmt: skip
    hessians = layer.hessians(grids)
    vectors = _fold(layer, model, format_, grids, hessians) if effort.fold else set()
    for shared in same(hessians):
        names = [name for name in shared if name in grids]
        if not names:
            continue
        inputs = layer.inputs(names)
        hessian, correction = feedback.damped(inputs.hessian), Correction(inputs)
        for name in names:
            rows = correction.corrected(layer.floats[f"{name}.weight"])
            made = feedback.quantise(rows, hessian, grids[name], effort.sweeps)
            layer.rounded[f"{name}.weight"] = made.values
            yield f"{layer.prefix}{name}.weight", made
    yield from ((layer.prefix + name, layer.rounded[name]) for name in sorted(vectors))


def _fold(
    layer: Layer,
    model: Description,
    format_: Format,
    grids: Mapping[str, Grid],
    hessians: Mapping[str, Floats],
) -> set[str]:
    """Fold scales into a layer's tensors; return the names of the vectors among them."""
    vectors: set[str] = set()
    for fold in folding.folds_of(model, layer.index):
        found = hessians.get(fold.matrices[0])
        readers = {name for name, each in hessians.items() if each is found}
        written = [*fold.matrices, *([] if fold.norm else [fold.before])]
        if not all(format_.holds(layer.prefix + name) for name in fold.vectors):
            continue
        if found is None or readers != set(fold.matrices) or not grids.keys() >= set(written):
            continue
        own = [grids[name] for name in fold.matrices]
        importance = _costs(found, own[0].block)
        scales = folding.search(fold, layer.floats, importance, own)
        changed = folding.apply(fold, layer.floats, scales)
        layer.rounded.update((name, layer.floats[name]) for name in changed)
        vectors |= {name for name in changed if layer.floats[name].ndim == 1}
    return vectors


def _costs(hessian: Floats, block: int) -> Floats:
    """Return what the squared error of each column costs when errors are fed back, (columns,)."""
    factor = feedback.factorise(feedback.damped(hessian), block)
    costs = np.empty_like(factor.weights)
    costs[factor.order] = factor.weights
    return costs

"""The tensors of a GGUF that a walk over the layers makes: their bytes, each in a file of its own.

Owns which tensors of a GGUF a tensor of the checkpoint becomes row by row, and the files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pitool.architectures.base import Wanted
from pitool.catalog.cache import take
from pitool.catalog.tensor_types import TensorType
from pitool.checkpoint.source import Checkpoint
from pitool.convert import cache
from pitool.convert.conversion import Conversion
from pitool.convert.effort import Effort
from pitool.convert.feedback import Levels
from pitool.convert.gguf.calibrate import windows
from pitool.convert.gguf.feedback import TypeGrid, grid_of, pack
from pitool.convert.gguf.model import Model, find_model
from pitool.convert.lattice import Floats
from pitool.convert.layerwise import State, unwalkable, walk
from pitool.planning.type_mixture import TypedTensor
from pitool.report.progress import Progress

# Raised when the same text and types give other bytes, so that kept ones are not taken.
VERSION = 4


def round_tensors(
    work: Conversion, exact: Path, tensors: Sequence[TypedTensor], kept: Container[str]
) -> dict[str, Path]:
    """Return the files of what error feedback makes of a plan's tensors; none where it does not.

    ``exact``: a float GGUF, which the calibration text is tokenized with; ``kept``: matrices that
    keep the grid that they lie on.
    """
    effort, config = work.job.effort, work.checkpoint.config
    if not effort.feedback or unwalkable(config):
        return {}
    types = {t.tensor.name: t.type for t in tensors if t.tensor.name not in kept}
    text = windows(work, exact)
    parts = [VERSION, effort.name, sorted((name, kind.name) for name, kind in types.items()), text]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    folder = cache.folder() / f"{cache.key(work.source, digest)}.layers"
    folder.mkdir(parents=True, exist_ok=True)
    take(folder)
    return round_layers(
        work.checkpoint, find_model(config), types, text, effort, folder, work.progress
    )


def round_layers(
    checkpoint: Checkpoint,
    model: Model,
    types: Mapping[str, TensorType],
    windows: Sequence[Sequence[int]],
    effort: Effort,
    folder: Path,
    progress: Progress,
) -> dict[str, Path]:
    """Return the files of the tensors that were made, by their names in the GGUF.

    ``types``: of the matrices that may be rounded; ``folder``: keeps what is done, so that the
    same call goes on where it was broken off.
    """
    target = GgufTensors(model, types)
    for name, made in walk(checkpoint, windows, effort, target, State(folder), progress):
        path = folder / f"{target.name(name)}.bin"
        partial = path.with_suffix(".partial")
        partial.write_bytes(target.stored(name, made))
        partial.replace(path)
    return {path.stem: path for path in sorted(folder.glob("*.bin"))}


class GgufTensors:
    """The tensors of a GGUF by their names in the checkpoint: a ``layerwise.Format``."""

    def __init__(self, model: Model, types: Mapping[str, TensorType]) -> None:
        by_source: dict[str, list[Wanted]] = {}
        for want in model.wanted():
            for source in (want.source, *want.parts):
                by_source.setdefault(source, []).append(want)
        # What becomes several tensors, or a part of one, is left alone.
        self._wanted = {
            source: wants[0]
            for source, wants in by_source.items()
            if len(wants) == 1 and _is_stored_by_row(wants[0])
        }
        self._types = types

    def name(self, source: str) -> str:
        """Return the name of a tensor in the GGUF."""
        return self._wanted[source].target.name

    def grid(self, name: str, shape: tuple[int, ...]) -> TypeGrid | None:
        """Return the grid of a matrix's type."""
        want = self._wanted.get(name)
        kind = self._types.get(want.target.name) if want else None
        if kind is None or want is None or want.target.shape != shape:
            return None
        return grid_of(kind, shape[-1])

    def holds(self, name: str) -> bool:
        """Tell whether a vector is stored."""
        return name in self._wanted

    def stored(self, name: str, made: Levels | Floats) -> bytes:
        """Return the bytes of a tensor in the GGUF."""
        want = self._wanted[name]
        if isinstance(made, Levels):
            grid = self.grid(name, made.levels.shape)
            assert grid
            return pack(made, grid)[row_order(want, len(made.levels))].tobytes()
        values = made[row_order(want, len(made))] + np.float32(want.shift)
        return values.astype("<f4").tobytes()


def _is_stored_by_row(want: Wanted) -> bool:
    """Tell whether a tensor of the GGUF is one of the checkpoint, but for the order of its rows."""
    whole = bool(want.source) and want.value is None and want.source_shape == want.target.shape
    if not whole or want.columns is not None or want.function is not None or want.padding:
        return False
    rows = want.target.shape[0]
    # A transform that does more than change the order of rows does not keep these columns.
    marks = np.stack([np.arange(rows), np.arange(rows) + rows], axis=1)
    turned = want.transform(marks) if want.transform else marks
    if turned.shape != marks.shape:
        return False
    return bool((turned[:, 1] == turned[:, 0] + rows).all())


def row_order(want: Wanted, rows: int) -> NDArray[np.intp]:
    """Return which row of the checkpoint's tensor each row of the GGUF's is."""
    order = np.arange(rows)[:, None]
    return (want.transform(order) if want.transform else order)[:, 0]

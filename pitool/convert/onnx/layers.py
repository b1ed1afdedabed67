"""The matrices of an ONNX folder that a walk over the layers makes, and the tensors that it folds.

Owns their files; the graph is the writer's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from pitool.catalog.cache import take
from pitool.checkpoint.config import Config
from pitool.checkpoint.source import Checkpoint
from pitool.checkpoint.tensors import Tensor, read_header
from pitool.convert import cache
from pitool.convert.conversion import Conversion
from pitool.convert.effort import Effort
from pitool.convert.feedback import Levels
from pitool.convert.gguf.artifacts import exact_file
from pitool.convert.gguf.calibrate import windows
from pitool.convert.layerwise import State, unwalkable, walk
from pitool.convert.onnx.feedback import NBitsGrid
from pitool.convert.onnx.weights import EMBEDDING, HEAD, Part, Weights
from pitool.convert.onnx.writer import MakeWeights
from pitool.convert.techniques.packed import PackedWeights, unpackable
from pitool.convert.techniques.rounding import IntegerMatrix
from pitool.convert.techniques.workbench import is_matrix
from pitool.planning.onnx_weights import OnnxQuantisation
from pitool.report.progress import Progress

# Raised when the same text gives other levels, so that kept ones are not taken.
VERSION = 4


def round_folder(work: Conversion, kind: OnnxQuantisation) -> tuple[Checkpoint, MakeWeights] | None:
    """Return the checkpoint with what was folded, and what writes its matrices as rounded.

    None where error feedback does not make them.
    """
    effort, config = work.job.effort, work.checkpoint.config
    if not (effort.feedback and takes(kind, config)):
        return None
    text = windows(work, exact_file(work))
    parts = json.dumps([VERSION, effort.name, kind.name, text])
    digest = hashlib.sha256(parts.encode()).hexdigest()
    folder = cache.folder() / f"{cache.key(work.source, digest)}.layers"
    folder.mkdir(parents=True, exist_ok=True)
    take(folder)
    made = RoundedFolder(folder)
    made.make(work.checkpoint, kind, text, effort, work.progress)
    return made.checkpoint(work.checkpoint), made.make_weights


def takes(kind: OnnxQuantisation, config: Config) -> bool:
    """Tell whether a quantisation of a checkpoint has levels that can be chosen one by one."""
    blocks = kind.quantised and not kind.dynamic and not kind.asymmetric
    return blocks and unpackable(config) is None and not unwalkable(config)


def takes_ends(kind: OnnxQuantisation) -> bool:
    """Tell whether embedding and head lose enough to be rounded with error feedback, too."""
    return kind.head_bits == 4


class FeedbackWeights(PackedWeights):
    """Matrices as they were rounded, and all others as ``Weights`` quantises them."""

    def matmul(self, value: str, name: str, parts: Sequence[Part], *, head: bool = False) -> str:
        """Write the matrices of all parts, stacked; return the name of the product."""
        there = all(self._find_matrix(f"{part.module}.weight") for part in parts)
        if there and not head:
            return super().matmul(value, name, parts)
        return Weights.matmul(self, value, name, parts, head=head)

    def _blocks(
        self, name: str, parts: Sequence[Part], bits: int
    ) -> tuple[list[str], tuple[int, int]]:
        """Write a matrix in blocks: embedding and head as they were rounded."""
        found = self._find_matrix(f"{parts[0].module}.weight") if len(parts) == 1 else None
        if found is None or found.bits != bits:
            return super()._blocks(name, parts, bits)
        rows, columns = found.levels.shape
        return self._write(name, [found]), (rows, columns)


class RoundedFolder:
    """What was rounded and folded, a file each: a ``layerwise.Format``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._grid: NBitsGrid | None = None
        self._ends: frozenset[str] = frozenset()

    def make(
        self,
        checkpoint: Checkpoint,
        kind: OnnxQuantisation,
        windows_: Sequence[Sequence[int]],
        effort: Effort,
        progress: Progress,
    ) -> None:
        """Walk over the layers; what is there already is kept."""
        self._grid = NBitsGrid(kind.bits, kind.block)
        if takes_ends(kind):
            self._ends = frozenset((EMBEDDING, HEAD)) & checkpoint.tensors.keys()
        for name, made in walk(checkpoint, windows_, effort, self, State(self._folder), progress):
            partial_ = self._folder / f"{name}.partial"
            if isinstance(made, Levels):
                with partial_.open("wb") as file:
                    np.savez(file, allow_pickle=False, levels=made.levels, scales=made.stored)
                partial_.replace(self._path(name))
            else:
                save_file({name: np.ascontiguousarray(made)}, partial_)
                partial_.replace(self._folder / f"{name}.safetensors")

    def grid(self, name: str, shape: tuple[int, ...]) -> NBitsGrid | None:
        """Return the grid of a matrix of the layers, and of embedding and head if they have it."""
        grid = self._grid
        taken = is_matrix(name) or name in self._ends
        return grid if grid and taken and shape[-1] % grid.block == 0 else None

    def holds(self, _name: str) -> bool:
        """Tell whether a vector is stored as it is: in float32, every one is."""
        return True

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.npz"

    def matrix(self, name: str) -> IntegerMatrix | None:
        """Return a matrix as it was rounded, None for one that was not."""
        path, grid = self._path(name), self._grid
        if grid is None or not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as found:  # noqa: TID251 - written above
            return IntegerMatrix(
                name, found["levels"], found["scales"], None, grid.bits, grid.block
            )

    @property
    def make_weights(self) -> MakeWeights:
        """What writes the matrices as they were rounded."""
        return partial(FeedbackWeights, find=self.matrix)

    def checkpoint(self, original: Checkpoint) -> Checkpoint:
        """Return the checkpoint with the tensors that scales were folded into."""
        found: dict[str, Tensor] = {}
        for path in self._folder.glob("*.safetensors"):
            found |= {tensor.name: tensor for tensor in read_header(path)}
        return replace(original, tensors={**original.tensors, **found})

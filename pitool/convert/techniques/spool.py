"""A technique's output on disk: tensors are written in any order and read in any order.

Values are kept in a safetensors file in float32, which makes them a checkpoint that every writer
can read; integer matrices are kept next to it. Never holds more than one tensor in memory.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pitool.checkpoint.source import Checkpoint
from pitool.checkpoint.tensors import Tensor, read_header, to_float32
from pitool.checkpoint.weights import SINGLE
from pitool.convert.onnx.blocks import quantise_blocks
from pitool.convert.techniques.rounding import Floats, IntegerMatrix, QuantisedTensor
from pitool.convert.techniques.workbench import EMBEDDING, HEAD, is_matrix
from pitool.errors import PitoolError

SLAB_BYTES = 16 << 20
HEAD_BLOCK = 32
# Disk space per weight while a stream becomes an artifact: value, level, and the artifact.
BYTES_PER_WEIGHT = 9


class Spool:
    """Stores a stream of tensors; ``checkpoint`` then reads their values, ``matrix`` the levels.

    ``bytes``: the size of all tensors in the technique's format.
    """

    def __init__(self, checkpoint: Checkpoint, folder: Path) -> None:
        self._original, self._folder = checkpoint, folder
        folder.mkdir(parents=True)
        self._path = folder / SINGLE
        write_zeros(self._path, checkpoint.tensors)
        self._places = {tensor.name: tensor for tensor in read_header(self._path)}
        self._sizes: dict[str, int] = {}
        self._matrices: dict[str, Path] = {}

    def store(self, stream: Iterator[QuantisedTensor]) -> None:
        """Store a whole stream; PitoolError for a tensor that cannot belong to the model."""
        with self._path.open("r+b") as file:
            for stored in stream:
                self._store(file, stored)

    def _store(self, file: BinaryIO, stored: QuantisedTensor) -> None:
        place, values = self._places.get(stored.name), stored.values
        if place is None or place.shape != values.shape or not np.isfinite(values).all():
            raise PitoolError(
                f"the technique produced a tensor {stored.name!r} of shape {values.shape} that the"
                " model does not have, or that is not finite",
                "report this technique",
            )
        file.seek(place.start)
        file.write(np.ascontiguousarray(values, np.float32).data)
        self._sizes[stored.name] = stored.bytes
        if isinstance(stored, IntegerMatrix):
            path = self._folder / f"{stored.name}.npz"
            arrays: dict[str, Any] = {"levels": stored.levels, "scales": stored.scales}
            if stored.zeros is not None:
                arrays["zeros"] = stored.zeros
            np.savez(path, allow_pickle=False, shape=[stored.bits, stored.block], **arrays)
            self._matrices[stored.name] = path

    def finish(self) -> None:
        """Add the tensors not yielded: embedding and head in 8-bit blocks, others unchanged."""
        with self._path.open("r+b") as file:
            for name, tensor in self._original.tensors.items():
                if name not in self._sizes:
                    self._sizes[name] = self._fill(file, tensor)

    def _fill(self, file: BinaryIO, tensor: Tensor) -> int:
        place = self._places[tensor.name]
        file.seek(place.start)
        table = tensor.name in (EMBEDDING, HEAD) and tensor.shape[1] % HEAD_BLOCK == 0
        size = 0
        for slab in tensor.slabs(SLAB_BYTES):
            values = to_float32(slab, tensor.kind)
            if table:
                matrix = head_matrix(tensor.name, values)
                values, size = matrix.values, size + matrix.bytes
            else:
                size += values.size * (2 if is_matrix(tensor.name) else 4)
            file.write(np.ascontiguousarray(values).data)
        return size

    def matrix(self, name: str) -> IntegerMatrix | None:
        """Return a tensor as an integer matrix, None when it is not one."""
        path = self._matrices.get(name)
        if path is None:
            return None
        with np.load(path, allow_pickle=False) as found:  # noqa: TID251 - written above
            bits, block = found["shape"].tolist()
            zeros = found["zeros"] if "zeros" in found.files else None
            return IntegerMatrix(name, found["levels"], found["scales"], zeros, bits, block)

    @property
    def bytes(self) -> int:
        """Bytes of all tensors in the technique's format; a tied head is counted once."""
        twice = {HEAD} if self._original.tied and EMBEDDING in self._sizes else set()
        return sum(size for name, size in self._sizes.items() if name not in twice)

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint with the stored values."""
        return replace(self._original, tensors=self._places)

    @property
    def with_original_tables(self) -> Checkpoint:
        """The same with the original embedding and head, for a writer that quantises them."""
        kept = {n: t for n, t in self._original.tensors.items() if n in (EMBEDDING, HEAD)}
        return replace(self._original, tensors={**self._places, **kept})

    def remove(self) -> None:
        """Delete the files."""
        shutil.rmtree(self._folder)


def head_matrix(name: str, values: Floats) -> IntegerMatrix:
    """Return rows of an embedding or head in 8-bit blocks, as the ONNX writer's ``INT8``."""
    made = quantise_blocks(values, 8, HEAD_BLOCK, asymmetric=False)
    levels = made.weights.reshape(len(values), -1)[:, : values.shape[1]]
    return IntegerMatrix(name, levels, made.scales, None, 8, HEAD_BLOCK)


def write_zeros(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file with the same tensors in float32, all zeros; sparse if possible."""
    header, at = {}, 0
    for name, tensor in tensors.items():
        size = 4 * prod(tensor.shape)
        header[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [at, at + size],
        }
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)

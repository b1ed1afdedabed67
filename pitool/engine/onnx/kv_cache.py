"""Keys and values of a graph: shared by its inputs and outputs or handed on, and in a file.

``buffers`` hold key and value of each layer, shape (1, kv heads, context, head dim), whichever way
the graph takes them; what lies behind the tokens at hand is never looked at. A file is numpy's own
archive, uncompressed, never a pickle.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pitool.catalog.onnx import OnnxFolder
from pitool.engine.arrays import Arrays, open_arrays
from pitool.engine.onnx.runtime import onnxruntime
from pitool.errors import BadInput, cannot_write

_HASHED = 1 << 20

Pairs = Sequence[tuple[str, str]]
"""Name of an input, and of the output that follows it."""


class KvCache(Protocol):
    """What a graph does with its keys and values around a run."""

    buffers: list[NDArray[Any]]

    def before(self, length: int) -> None:
        """Bind the keys and values of the first ``length`` tokens."""

    def after(self, length: int, count: int) -> None:
        """Take over those of ``count`` tokens more."""

    def forget(self) -> None:
        """Hear that ``buffers`` or the length were changed from outside."""


class SharedCache:
    """The graph reads and writes the buffers in place (GroupQueryAttention): nothing to do."""

    def __init__(self, binding: Any, pairs: Pairs, buffers: list[NDArray[Any]]) -> None:
        self.buffers = buffers
        for (past, present), buffer in zip(pairs, buffers, strict=True):
            place = ("cpu", 0, buffer.dtype, buffer.shape, buffer.ctypes.data)
            binding.bind_input(past, *place)
            binding.bind_output(present, *place)

    def before(self, length: int) -> None:
        """Do nothing: the attention mask says how many tokens there are."""

    def after(self, length: int, count: int) -> None:
        """Do nothing: the graph has written them."""

    def forget(self) -> None:
        """Do nothing: the buffers are what the graph reads."""


class GrownCache:
    """The graph returns longer keys and values (plain exports), which its next run is given.

    The new rows are kept in the buffers as well, from which a rewound cache is cut.
    """

    def __init__(self, binding: Any, pairs: Pairs, buffers: list[NDArray[Any]]) -> None:
        self.buffers = buffers
        self._binding, self._pairs = binding, pairs
        self._held: int | None = None
        for _, present in pairs:
            binding.bind_output(present, "cpu")

    def before(self, length: int) -> None:
        """Bind what the last run returned, or a copy of the first tokens of the buffers."""
        if self._held != length:
            for (past, _), buffer in zip(self._pairs, self.buffers, strict=True):
                rows = np.ascontiguousarray(buffer[:, :, :length])
                self._bind(past, onnxruntime.OrtValue.ortvalue_from_numpy(rows))
            self._held = length
        for _, present in self._pairs:
            self._binding.bind_output(present, "cpu")

    def after(self, length: int, count: int) -> None:
        """Bind what the run returned as the next run's past, and keep its new rows."""
        made = self._binding.get_outputs()
        for (past, _), buffer, value in zip(self._pairs, self.buffers, made, strict=False):
            buffer[:, :, length : length + count] = value.numpy()[:, :, length:]
            self._bind(past, value)
        self._held = length + count

    def forget(self) -> None:
        """Cut the next run's past from the buffers."""
        self._held = None

    def _bind(self, past: str, value: Any) -> None:
        self._binding.bind_ortvalue_input(past, value)


def fingerprint(folder: OnnxFolder) -> str:
    """Return what tells a model from others: a hash of its graph's beginning and all sizes."""
    with folder.graph.open("rb") as file:
        digest = hashlib.sha256(file.read(_HASHED))
    for path in folder.files:
        digest.update(f"{path.name} {path.stat().st_size}".encode())
    return digest.hexdigest()


def write(path: Path, model: str, ids: Sequence[int], cache: Sequence[NDArray[Any]]) -> None:
    """Write the first ``len(ids)`` tokens of a cache into a file, for this user alone if new."""
    used = {str(i): part[:, :, : len(ids)] for i, part in enumerate(cache)}
    tokens = np.asarray(ids, np.int64)
    try:
        with open(path, "wb", opener=_private) as file:
            np.savez(file, allow_pickle=False, model=np.array(model), ids=tokens, **used)
    except OSError as error:
        raise cannot_write(path, error, "delete saved prefills") from None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def read(path: Path, model: str, cache: Sequence[NDArray[Any]]) -> list[int]:
    """Fill a cache and return its tokens; BadInput when the file is of another model or none."""
    most = max(part.nbytes for part in cache) + _HASHED
    try:
        with open_arrays(path, most) as archive:
            if str(archive.read("model", "U", 0)) == model:
                return _fill(archive, cache)
    except ValueError:
        pass
    raise BadInput(f"{path} is not a saved state of this model", "start the conversation again")


def tokens_of(path: Path) -> Sequence[int]:
    """Return the tokens of a file; none of one that is of another format, damaged or gone."""
    try:
        with open_arrays(path, path.stat().st_size) as archive:
            return [int(token) for token in archive.read("ids", "<i8", 1)]
    except (ValueError, OSError):
        return ()


def _fill(archive: Arrays, cache: Sequence[NDArray[Any]]) -> list[int]:
    ids = [int(token) for token in archive.read("ids", "<i8", 1)]
    for i, part in enumerate(cache):
        found = archive.read(str(i), part.dtype.str, part.ndim)
        if found.shape != part[:, :, : len(ids)].shape or found.shape[2] != len(ids):
            raise ValueError("it has keys and values of other shapes")
        part[:, :, : len(ids)] = found
    return ids

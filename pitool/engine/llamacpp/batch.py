"""A batch of llama.cpp's in arrays of numpy: tokens of several sequences for one pass."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from pitool.engine.llamacpp.library import llama_cpp


class Batch:
    """Room for ``capacity`` tokens; ``struct`` is what llama.cpp takes."""

    def __init__(self, capacity: int) -> None:
        self._tokens, self._positions, self._sequences = np.zeros((3, capacity), np.int32)
        self._counts = np.ones(capacity, np.int32)
        self._logits = np.zeros(capacity, np.int8)
        step = self._sequences.itemsize
        first = self._sequences.ctypes.data
        self._pointers = np.arange(first, first + capacity * step, step, dtype=np.uintp)
        self.struct = llama_cpp.llama_batch()
        self._point("token", self._tokens)
        self._point("pos", self._positions)
        self._point("n_seq_id", self._counts)
        self._point("seq_id", self._pointers)
        self._point("logits", self._logits)
        self.size = 0

    def _point(self, name: str, array: Any) -> None:
        kind = type(getattr(self.struct, name))
        setattr(self.struct, name, ctypes.cast(array.ctypes.data, kind))

    def clear(self) -> None:
        """Begin an empty one."""
        self.size = self.struct.n_tokens = 0

    def add(self, ids: Sequence[int], start: int, sequence: int, *, rows: int) -> int:
        """Append tokens of a sequence at positions from ``start``.

        Of the last ``rows`` of them the logits are wanted; returns the row of the first of these.
        """
        new = slice(self.size, self.size + len(ids))
        self._tokens[new] = ids
        self._positions[new] = range(start, start + len(ids))
        self._sequences[new] = sequence
        self._logits[new] = 0
        self.size += len(ids)
        self.struct.n_tokens = self.size
        self._logits[self.size - rows : self.size] = 1
        return self.size - max(rows, 1)

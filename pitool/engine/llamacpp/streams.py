"""The state of one sequence, as a cache with a buffer for each sequence has it and as one alone.

llama.cpp writes for each buffer ("stream") how many cells of the sequence are in it, none but in
its own, and reads a state only where there are as many buffers (llama_kv_cache::state_write). Files
hold a state as a cache with one buffer writes it, so that any number of sequences can use them.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

# Magic, version and number of tokens, which are 4 bytes each.
HEAD = struct.Struct("<3I")
# Bytes of a cell with one sequence: its position and sequence; two more positions (M-RoPE).
_CELLS = (12, 20)
_MOST, _MOST_TYPES, _MOST_ROW = 1 << 20, 256, 1 << 32


def leave_one(path: Path, streams: int) -> None:
    """Rewrite a file of a cache with so many buffers, in place, as of one; ValueError if it isn't.

    Nothing is held in memory.
    """
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        to = start = HEAD.size + HEAD.unpack(data[: HEAD.size])[2] * 4
        with memoryview(data) as view:
            bodies = list(_bodies(view[start:], streams))
        for body in bodies:
            data[to : to + 4] = struct.pack("<I", 1)
            to += 4
            data.move(to, start + body.start, body.stop - body.start)
            to += body.stop - body.start
        data.flush()
    with path.open("r+b") as file:
        file.truncate(to)


def spread(state: Bytes, streams: int) -> list[Bytes]:
    """Return the pieces of a state of one buffer as of so many; ValueError for one that is none."""
    if streams == 1:
        return [state]
    number = np.frombuffer(struct.pack("<I", streams), np.uint8)
    empty = np.zeros(4 * (streams - 1), np.uint8)
    bodies = _bodies(state.data, 1)
    return [piece for body in bodies for piece in (number, state[body], empty)]


def _bodies(state: memoryview, streams: int) -> Iterator[slice]:
    """Yield where the cells of each cache are, with their number; two caches with windows."""
    walk = _Walk(state)
    while walk.at < len(state):
        if walk.number() != streams:
            raise ValueError("it has another number of buffers")
        found = slice(walk.at, walk.at)
        for _ in range(streams):
            begin = walk.at
            cells = walk.number()
            if cells:
                walk.skip_cells(cells)
                found = slice(begin, walk.at)
        if found.start == found.stop:
            found = slice(begin, walk.at)  # no cells in any
        yield found


class _Walk:
    """Goes through a state from its start to its end."""

    def __init__(self, state: memoryview) -> None:
        self._state, self.at = state, 0

    def number(self) -> int:
        """Return the next number of 4 bytes."""
        self._skip(4)
        return int.from_bytes(self._state[self.at - 4 : self.at], "little")

    def skip_cells(self, cells: int) -> None:
        """Go past cells, their keys and their values."""
        self._skip(cells * self._cell_size(cells))
        transposed, layers = self.number(), self.number()
        if transposed > 1 or not 0 < layers < _MOST:
            raise ValueError("its cells are of another kind")
        for _ in range(layers):
            self._skip(cells * self._row())
        for _ in range(layers):
            if transposed:
                self._skip_transposed(cells)
            else:
                self._skip(cells * self._row(needed=False))

    def _cell_size(self, cells: int) -> int:
        """Return the bytes of a cell: after its position stands how many sequences it has."""
        for size in _CELLS:
            raw = self._state[self.at : self.at + cells * size]
            if len(raw) == cells * size:
                numbers = np.frombuffer(raw, "<i4").reshape(cells, size // 4)
                if (numbers[:, 1] == 1).all():
                    return size
        raise ValueError("its cells are of another kind")

    def _row(self, *, needed: bool = True) -> int:
        """Return the bytes of a cell's row; none of values, of a model with keys alone (MLA)."""
        before = self.at
        kind, size = self.number(), self.number() | self.number() << 32
        if kind < _MOST_TYPES and 0 < size < _MOST_ROW:
            return size
        if needed:
            raise ValueError("its rows are of another kind")
        self.at = before
        return 0

    def _skip_transposed(self, cells: int) -> None:
        kind, element, rows = self.number(), self.number(), self.number()
        if kind >= _MOST_TYPES or element > _MOST or rows > _MOST:
            raise ValueError("its values are of another kind")
        self._skip(cells * element * rows)

    def _skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self._state):
            raise ValueError("it is cut")

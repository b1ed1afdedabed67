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

from pitool.engine.llamacpp.states import Bytes, Walk, open_state

# Bytes of a cell with one sequence: its position and sequence; two more positions (M-RoPE).
_CELLS = (12, 20)
# The type of a row, and its bytes.
_ROW_HEAD = 12
_MOST, _MOST_TYPES, _MOST_ROW = 1 << 20, 256, 1 << 32


def leave_one(path: Path, streams: int) -> None:
    """Rewrite a file of a cache with so many buffers, in place, as of one; ValueError if it isn't.

    Nothing is held in memory.
    """
    state = open_state(path).state
    bodies = list(_bodies(state, streams))
    to = start = path.stat().st_size - len(state)
    with path.open("r+b") as file:
        with mmap.mmap(file.fileno(), 0) as data:
            for body in bodies:
                data[to : to + 4] = struct.pack("<I", 1)
                to += 4
                data.move(to, start + body.start, body.stop - body.start)
                to += body.stop - body.start
        file.truncate(to)


def spread(state: Bytes, streams: int) -> list[Bytes]:
    """Return the pieces of a state of one buffer as of so many; ValueError for one that is none."""
    if streams == 1:
        return [state]
    number = np.frombuffer(struct.pack("<I", streams), np.uint8)
    empty = np.zeros(4 * (streams - 1), np.uint8)
    bodies = _bodies(state, 1)
    return [piece for body in bodies for piece in (number, state[body], empty)]


def _bodies(state: Bytes, streams: int) -> Iterator[slice]:
    """Yield where the cells of each cache are, with their number; two caches with windows."""
    walk = Walk(state)
    while walk.left:
        if walk.number() != streams:
            raise ValueError("it has another number of buffers")
        found: slice | None = None
        for _ in range(streams):
            begin = walk.at
            if cells := walk.number():
                _skip_cells(walk, cells)
            if cells or found is None:
                found = slice(begin, walk.at)
        if found:
            yield found


def _skip_cells(walk: Walk, cells: int) -> None:
    """Go past cells, their keys and their values."""
    walk.take(cells * _cell_size(walk, cells))
    transposed, layers = walk.number(), walk.number()
    if transposed > 1 or not 0 < layers < _MOST:
        raise ValueError("its cells are of another kind")
    for _ in range(layers):
        walk.take(cells * _row(walk))
    for _ in range(layers):
        if transposed:
            walk.take(cells * _column(walk))
        elif _has_row(walk):
            walk.take(cells * _row(walk))


def _cell_size(walk: Walk, cells: int) -> int:
    """Return the bytes of a cell: after its position stands how many sequences it has."""
    for size in _CELLS:
        raw = walk.peek(cells * size)
        if len(raw) == cells * size and (raw.view("<i4").reshape(cells, -1)[:, 1] == 1).all():
            return size
    raise ValueError("its cells are of another kind")


def _row(walk: Walk) -> int:
    """Return the bytes of a cell's row of keys, or of values."""
    kind, size = walk.number(), walk.number("<Q")
    if kind >= _MOST_TYPES or not 0 < size < _MOST_ROW:
        raise ValueError("its rows are of another kind")
    return size


def _has_row(walk: Walk) -> bool:
    """Tell whether a row follows; after keys alone (MLA) there is an empty buffer or the end."""
    return bool(walk.peek(_ROW_HEAD)[4:].any())


def _column(walk: Walk) -> int:
    """Return the bytes of a cell in the columns of transposed values."""
    kind, element, rows = walk.number(), walk.number(), walk.number()
    if kind >= _MOST_TYPES or element > _MOST or rows > _MOST:
        raise ValueError("its values are of another kind")
    return element * rows

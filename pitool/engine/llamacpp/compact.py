"""Saved prefills with keys and values in q8_0, whatever type the KV cache has: half of f16's bytes.

A compact file is llama.cpp's file of one sequence with another magic, in which the rows of keys and
values are packed; everything else, the cache's own type among it, stands as llama.cpp wrote it. The
state is turned back into the cache's type when it is read. Caches of keys and values in f16 and f32
can be packed, one or several after each other (sliding windows); a recurrent state cannot.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.engine.llamacpp.states import HEAD, Bytes, Walk, open_state
from pitool.engine.prefills.prefixes import COMPACT_MAGIC
from pitool.errors import UsageError

# A block of ggml's q8_0: a scale in half precision and 32 numbers of 8 bits (ggml-common.h).
BLOCK = 32
_Q8_0 = np.dtype([("scale", "<f2"), ("numbers", "i1", (BLOCK,))])
# ggml's numbers of the types that are packed (ggml.h).
_TYPES: dict[int, np.dtype[Any]] = {0: np.dtype("<f4"), 1: np.dtype("<f2")}
# Of a cell its position, and one sequence by its number.
_CELL = 12
# What stands before a state in memory: llama.cpp's sign of one, and a sequence that nobody reads.
BUFFER_HEAD = np.frombuffer(struct.pack("<Ii", 0xAF143CD8, 0), np.uint8)


def is_compact(path: Path) -> bool:
    """Tell whether a file is a compact one; one that cannot be read is none."""
    try:
        with path.open("rb") as file:
            return file.read(4) == COMPACT_MAGIC.to_bytes(4, "little")
    except OSError:
        return False


def compact(path: Path) -> None:
    """Pack a state that llama.cpp wrote, in place; UsageError for one that cannot be packed."""
    try:
        file = open_state(path)
        packed = b"".join(_walk(file.state, packs=True))
    except ValueError as error:
        raise UsageError(
            f"the state of this model cannot be stored in q8_0 ({error})", "leave out --compact"
        ) from None
    head = HEAD.pack(COMPACT_MAGIC, file.version, len(file.tokens))
    path.write_bytes(head + file.tokens.tobytes() + packed)


def read_state(path: Path) -> tuple[list[int], Bytes]:
    """Return the tokens of a file, compact or not, and its state, never packed.

    ``llama_state_seq_set_data`` takes it behind ``BUFFER_HEAD``. ValueError for a damaged file.
    """
    magic, _, tokens, state = open_state(path)
    if magic == COMPACT_MAGIC:
        state = np.frombuffer(b"".join(_walk(state, packs=False)), np.uint8)
    return [int(token) for token in tokens], state


class _Copying(Walk):
    """A walk that copies the numbers it reads into ``made``."""

    def __init__(self, state: Bytes) -> None:
        super().__init__(state)
        self.made: list[bytes] = []

    def number(self, form: str = "<I") -> int:
        """Return the next number, and copy it."""
        self.made.append(self.peek(struct.calcsize(form)).tobytes())
        return super().number(form)


def _walk(state: Bytes, *, packs: bool) -> list[bytes]:
    """Return a state with its rows packed, or as they were."""
    walk = _Copying(state)
    while walk.left:
        for _ in range(_small(walk.number(), "streams")):
            _stream(walk, packs=packs)
    return walk.made


def _stream(walk: _Copying, *, packs: bool) -> None:
    """Copy one stream of a cache (llama_kv_cache::state_write): its cells, keys, then values."""
    cells = walk.number()
    if not cells:
        return
    places = walk.take(cells * _CELL)
    if not (places.view("<i4").reshape(cells, 3)[:, 1] == 1).all():
        raise ValueError("its cells are of another kind")
    walk.made.append(places.tobytes())
    if walk.number():
        raise ValueError("values are stored without flash attention")
    layers = _small(walk.number(), "layers")
    for _ in range(2 * layers):
        kind, row = walk.number("<i"), walk.number("<Q")
        if kind not in _TYPES:
            raise ValueError("the KV cache is neither f16 nor f32")
        numbers, rest = divmod(row, _TYPES[kind].itemsize)
        if rest or not numbers or numbers % BLOCK:
            raise ValueError(f"rows of {row} bytes are not whole blocks")
        blocks = cells * numbers // BLOCK
        if packs:
            walk.made.append(pack(walk.take(cells * row).view(_TYPES[kind])).tobytes())
        else:
            made = unpack(walk.take(blocks * _Q8_0.itemsize))
            walk.made.append(made.astype(_TYPES[kind]).tobytes())


def _small(count: int, what: str) -> int:
    """Return a count that a state may have."""
    if not 0 < count <= 4096:
        raise ValueError(f"it has {count} {what}")
    return count


def pack(numbers: NDArray[Any]) -> Bytes:
    """Return numbers as blocks of q8_0, rounded as ggml does (quantize_row_q8_0_ref)."""
    blocks = numbers.reshape(-1, BLOCK).astype(np.float32)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale > 0)
    scaled = blocks * inverse
    made = np.empty(len(blocks), _Q8_0)
    made["scale"] = scale[:, 0]
    made["numbers"] = np.trunc(scaled + np.copysign(np.float32(0.5), scaled))
    return made.view(np.uint8)


def unpack(data: Bytes) -> NDArray[np.float32]:
    """Return the numbers of blocks of q8_0."""
    blocks = data.view(_Q8_0)
    made: NDArray[np.float32] = blocks["scale"].astype(np.float32)[:, None] * blocks["numbers"]
    return made.reshape(-1)

"""The file of one sequence's state: its parts, and a walk through what llama.cpp wrote."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pitool.engine.prefills.prefixes import COMPACT_MAGIC, MAGIC

Bytes = NDArray[np.uint8]

# Magic, version and number of tokens; a token.
HEAD, _TOKEN = struct.Struct("<3I"), 4


class StateFile(NamedTuple):
    """What a file holds; the arrays are mapped from it."""

    magic: int
    version: int
    tokens: NDArray[np.int32]
    state: Bytes


def open_state(path: Path) -> StateFile:
    """Return the parts of a file, compact or not; ValueError where it is none."""
    if path.stat().st_size < HEAD.size:
        raise ValueError("it is cut")
    data: Bytes = np.memmap(path, np.uint8, "r")
    magic, version, count = HEAD.unpack(data[: HEAD.size].tobytes())
    end = HEAD.size + count * _TOKEN
    if magic not in (MAGIC, COMPACT_MAGIC) or end > len(data):
        raise ValueError("it is of another format")
    return StateFile(magic, version, data[HEAD.size : end].view("<i4"), data[end:])


class Walk:
    """Goes through a state from its start to its end; ``at`` is where it stands."""

    def __init__(self, state: Bytes) -> None:
        self._state, self.at = state, 0

    @property
    def left(self) -> int:
        """How many bytes there are still."""
        return len(self._state) - self.at

    def peek(self, size: int) -> Bytes:
        """Return the next bytes, or as many as there are."""
        return self._state[self.at : self.at + size]

    def take(self, size: int) -> Bytes:
        """Return the next bytes and go past them; ValueError where there are fewer."""
        if size > self.left:
            raise ValueError("it is cut, or of another kind")
        self.at += size
        return self._state[self.at - size : self.at]

    def number(self, form: str = "<I") -> int:
        """Return the next number."""
        return int(struct.unpack(form, self.take(struct.calcsize(form)).tobytes())[0])

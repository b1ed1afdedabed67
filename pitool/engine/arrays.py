"""Reads numpy's archives of plain arrays, each checked by its head before anything is unpacked.

Only what ``numpy.savez`` writes for arrays of numbers and texts is read: nothing is unpickled, and
nothing is evaluated. Sizes that a head claims are those that the archive holds, up to a limit.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

MAGIC = b"\x93NUMPY\x01\x00"
_HEAD = re.compile(
    r"\{'descr': '([<|][fiuU]\d{1,4})', 'fortran_order': False,"
    r" 'shape': \(((?:\d{1,18}, ?)*(?:\d{1,18})?)\), \} *\n"
)
# What zipfile and zlib raise for each kind of damage.
_DAMAGE = (
    ArithmeticError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError,
    struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class Arrays:
    """The arrays of an open archive; each at most ``most`` bytes."""

    def __init__(self, archive: zipfile.ZipFile, most: int) -> None:
        self._archive, self._most = archive, most

    def read(self, name: str, kind: str, dimensions: int) -> NDArray[Any]:
        """Return an array; ValueError for another type than ``kind``, such as ``<f4``.

        ``kind`` may be the letter of a type alone, as ``U`` for texts of any length.
        """
        info = self._archive.getinfo(f"{name}.npy")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name} is compressed in an unsupported way")
        if info.file_size > self._most:
            raise ValueError(f"{name} is larger than {self._most} bytes")
        with self._archive.open(info) as file:
            dtype, shape = _head(file)
            if kind not in (dtype.str, dtype.kind) or len(shape) != dimensions:
                raise ValueError(f"{name} is an array of {dtype.str} and shape {shape}")
            size = prod(shape) * dtype.itemsize
            if size != info.file_size - file.tell():
                raise ValueError(f"{name} has another size than its head says")
            data = file.read(size)
            if len(data) != size or file.read(1):  # which checks the sum of the whole
                raise ValueError(f"{name} is truncated")
        return np.frombuffer(data, dtype).reshape(shape)


@contextmanager
def open_arrays(path: Path, most: int) -> Iterator[Arrays]:
    """Open an archive; ValueError for one that is damaged, or damaged where it is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield Arrays(archive, most)
    except _DAMAGE as error:
        raise ValueError(str(error) or type(error).__name__) from None


def _head(file: IO[bytes]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return type and shape by the head of an array in numpy's format 1.0."""
    if file.read(len(MAGIC)) != MAGIC:
        raise ValueError("it is not an array")
    (length,) = struct.unpack("<H", file.read(2))
    match = _HEAD.fullmatch(file.read(length).decode("latin-1"))
    if match is None:
        raise ValueError("it is not an array of numbers")
    return np.dtype(match[1]), tuple(int(n) for n in match[2].split(",") if n.strip())

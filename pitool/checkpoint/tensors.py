"""Tensors of safetensors files, by the files' headers, read in slabs.

Follows the safetensors format (8 bytes of header length, a JSON header, the data). Every offset in
a header is checked against the size of the file. A header may list tensors of any type; only those
of a float type can be read. Which files and tensors are a checkpoint's weights is ``weights``'.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.catalog import reading
from pitool.catalog.contents import check_file, other_content, text_instead, unreadable
from pitool.errors import BadInput

LARGEST_HEADER = 100_000_000
_AGAIN = "download the checkpoint again"
_BEGINNING = 512

# BF16 has no numpy type: it is read as the upper 16 bits of a float32.
_TYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
# Bits of an element of the other types of safetensors; the size of a newer type is not checked.
_OTHER_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor in a file: ``kind`` is its type there; bytes ``start`` to ``end`` of the file."""

    name: str
    kind: str
    shape: tuple[int, ...]
    path: Path
    start: int
    end: int

    @property
    def bytes(self) -> int:
        """Stored bytes."""
        return self.end - self.start

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """The stored tensors that it is made of: itself."""
        return (self,)

    @property
    def is_float(self) -> bool:
        """Whether it can be read: F64, F32, F16 or BF16."""
        return self.kind in _TYPES

    @property
    def type(self) -> np.dtype[Any]:
        """The numpy type of a stored element; BadInput for a type that cannot be read."""
        if not self.is_float:
            raise BadInput(
                f"{self.path}: tensor {self.name!r} is stored as {self.kind}; only F64, F32, F16"
                " and BF16 are supported",
                "use the checkpoint that is not quantised",
            )
        return _TYPES[self.kind]

    def slabs(self, largest: int, multiple: int = 1) -> Iterator[NDArray[Any]]:
        """Yield runs of whole rows of at most ``largest`` bytes, a multiple of rows each.

        Arrays have the shape (rows, *rest); BF16 comes as uint16. The file is read and not
        mapped, so that memory is bounded by ``largest``.
        """
        yield from self.raw_slabs(self.type, largest, multiple)

    def raw_slabs(
        self, kind: np.dtype[Any], largest: int, multiple: int = 1
    ) -> Iterator[NDArray[Any]]:
        """Yield the same of a tensor whose stored elements are numbers of ``kind``."""
        rows = self.shape[0] if self.shape else 1
        rest = self.shape[1:]
        row_bytes = prod(rest) * kind.itemsize
        step = max(multiple, largest // max(row_bytes, 1) // multiple * multiple)
        with self.path.open("rb") as file:
            file.seek(self.start)
            for first in range(0, rows, step):
                count = min(step, rows - first)
                data = file.read(count * row_bytes)
                if len(data) != count * row_bytes:
                    raise _cut(self.path)
                yield np.frombuffer(data, kind).reshape(count, *rest)

    def sample(self, count: int) -> NDArray[np.float32]:
        """Return about so many rows, or all, evenly spaced, in float32: (rows, columns)."""
        kind = self.type
        rows, columns = prod(self.shape[:-1]), self.shape[-1]
        found = []
        with self.path.open("rb") as file:
            for row in range(0, rows, max(rows // count, 1)):
                file.seek(self.start + row * columns * kind.itemsize)
                data = file.read(columns * kind.itemsize)
                if len(data) != columns * kind.itemsize:
                    raise _cut(self.path)
                found.append(to_float32(np.frombuffer(data, kind), self.kind))
        return np.stack(found) if found else np.empty((0, columns), np.float32)

    def float32(self) -> NDArray[np.float32]:
        """Return the whole tensor in float32."""
        kind = self.type
        with self.path.open("rb") as file:
            file.seek(self.start)
            data = file.read(self.bytes)
        if len(data) != self.bytes:
            raise _cut(self.path)
        return to_float32(np.frombuffer(data, kind), self.kind).reshape(self.shape)


def to_float32(array: NDArray[Any], kind: str) -> NDArray[np.float32]:
    """Return values stored as ``kind`` in float32; those of F64 beyond it become infinite."""
    if kind == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


def read_header(path: Path) -> list[Tensor]:
    """Return the tensors of one safetensors file, checked against the file's size."""
    check_file(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            beginning = file.read(_BEGINNING)
            if wrong := other_content(path, beginning):
                raise wrong
            file.seek(8)
            return _parse(path, size, beginning, file.read)
    except OSError as error:
        raise unreadable(path, error) from None


def _parse(path: Path, size: int, beginning: bytes, read: Any) -> list[Tensor]:
    if len(beginning) < 8:
        raise text_instead(path, beginning) or _cut(path)
    (length,) = struct.unpack("<Q", beginning[:8])
    if length > LARGEST_HEADER or 8 + length > size:
        raise text_instead(path, beginning) or BadInput(
            f"{path} is damaged: its header claims {length} bytes, the file has {size}", _AGAIN
        )
    try:
        header = reading.parse_json(read(length), unique=True)
        entries = [(k, v) for k, v in header.items() if k != "__metadata__"]
        tensors = [tensor_of(path, name, entry, 8 + length) for name, entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path} has a damaged header ({error})", _AGAIN) from None
    _check_whole(path, size, 8 + length, tensors)
    return tensors


def tensor_of(path: Path, name: str, entry: Any, base: int = 0) -> Tensor:
    """Return a tensor by its entry in a header, whose data begins at byte ``base`` of the file.

    BadInput where offsets and shape do not match; ValueError, TypeError or LookupError for an
    entry that is none.
    """
    kind, shape = str(entry["dtype"]), tuple(_whole(n) for n in entry["shape"])
    start, end = (_whole(n) for n in entry["data_offsets"])
    count, bits = prod(shape), bits_of(kind)
    fits = start <= end if bits is None else (end - start) * 8 == count * bits
    if start < 0 or min(shape, default=1) < 0 or not fits:
        raise BadInput(f"{path}: the offsets of {name!r} do not match its shape", _AGAIN)
    return Tensor(name, kind, shape, path, base + start, base + end)


def bits_of(kind: str) -> int | None:
    """Return the bits of an element stored as ``kind``, None for a type that is not known."""
    return _TYPES[kind].itemsize * 8 if kind in _TYPES else _OTHER_BITS.get(kind)


def _check_whole(path: Path, size: int, base: int, tensors: list[Tensor]) -> None:
    """Raise BadInput unless the tensors fill the file without a hole or an overlap."""
    if max((tensor.end for tensor in tensors), default=0) > size:
        raise _cut(path)
    at = base
    for tensor in sorted(tensors, key=lambda t: (t.start, t.end)):
        if tensor.start != at:
            raise BadInput(f"{path} is damaged: its tensors overlap, or leave a hole", _AGAIN)
        at = tensor.end
    if at != size:
        raise BadInput(f"{path} is damaged: {size - at} bytes after its tensors", _AGAIN)


def _whole(value: object) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is not a whole number")
    return value


def _cut(path: Path) -> BadInput:
    return BadInput(f"{path} is truncated", _AGAIN)

"""The tensors of a checkpoint: safetensors files, indexed by their headers, read in slabs.

Follows the safetensors format (8 bytes of header length, a JSON header, the data), in one file or
several. Every offset in a header is checked against the size of the file.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.catalog import reading
from pitool.catalog.files import path_kind
from pitool.errors import BadInput

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
LARGEST_HEADER = 100_000_000
_AGAIN = "download the checkpoint again"

# BF16 has no numpy type: it is read as the upper 16 bits of a float32.
_TYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor in a file: ``kind`` is F32, F16 or BF16; bytes ``start`` to ``end`` of the file."""

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

    def slabs(self, largest: int, multiple: int = 1) -> Iterator[NDArray[Any]]:
        """Yield runs of whole rows of at most ``largest`` bytes, a multiple of rows each.

        Arrays have the shape (rows, *rest); BF16 comes as uint16. The file is read and not
        mapped, so that memory is bounded by ``largest``.
        """
        kind = _TYPES[self.kind]
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

    def float32(self) -> NDArray[np.float32]:
        """Return the whole tensor in float32."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            data = file.read(self.bytes)
        if len(data) != self.bytes:
            raise _cut(self.path)
        return to_float32(np.frombuffer(data, _TYPES[self.kind]), self.kind).reshape(self.shape)


def to_float32(array: NDArray[Any], kind: str) -> NDArray[np.float32]:
    """Return values stored as ``kind`` in float32."""
    if kind == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32, copy=False)


def read_index(folder: Path) -> dict[str, Tensor]:
    """Return every tensor of a checkpoint folder by name; BadInput for damaged or missing files."""
    tensors: dict[str, Tensor] = {}
    for path in _files(folder):
        for tensor in read_header(path):
            tensors[tensor.name] = tensor
    return tensors


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a checkpoint folder, in order."""
    return _files(folder)


def file_names(folder: Path) -> list[str]:
    """Return the names of the weight files in a folder's index, none if it has no index."""
    index = folder / INDEX
    if index.is_file():
        found = reading.read_object(index, _AGAIN, most=reading.LARGEST_TABLE)
        try:
            names = set(found["weight_map"].values())
        except (LookupError, AttributeError, TypeError) as error:
            raise BadInput(f"cannot read {index} ({error!r})", _AGAIN) from None
        if not names:
            raise BadInput(f"{index} lists no files", _AGAIN)
        if any(not isinstance(n, str) or Path(n).name != n for n in names):
            raise BadInput(f"{index} lists files outside the folder", _AGAIN)
        return sorted(names)
    return []


def _files(folder: Path) -> list[Path]:
    if paths := [folder / name for name in file_names(folder)]:
        missing = [path.name for path in paths if path_kind(path) != "file"]
        if missing:
            raise BadInput(f"{folder} does not contain {', '.join(missing[:3])}", _AGAIN)
        return paths
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    others = sorted(folder.glob("*.safetensors"))
    if len(others) == 1:
        return others
    if list(folder.glob("pytorch_model*.bin")):
        raise BadInput(
            f"{folder} has its weights only as pytorch_model.bin, a format that can run code when"
            " it is opened",
            "save it as safetensors: model.save_pretrained(folder, safe_serialization=True)",
        )
    raise BadInput(f"{folder} has no model.safetensors", "choose a folder with weights")


def read_header(path: Path) -> list[Tensor]:
    """Return the tensors of one safetensors file, checked against the file's size."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return _parse(path, size, file.read(8), file.read)
    except OSError as error:
        raise BadInput(f"cannot read {path} ({os.strerror(error.errno or 0)})", _AGAIN) from None


def _parse(path: Path, size: int, prefix: bytes, read: Any) -> list[Tensor]:
    if len(prefix) < 8:
        raise _cut(path)
    (length,) = struct.unpack("<Q", prefix)
    if length > LARGEST_HEADER or 8 + length > size:
        raise BadInput(
            f"{path} is damaged: its header claims {length} bytes, the file has {size}", _AGAIN
        )
    try:
        header = reading.parse_json(read(length))
        entries = [(k, v) for k, v in header.items() if k != "__metadata__"]
        return [_tensor(path, size, 8 + length, name, entry) for name, entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path} has a damaged header ({error})", _AGAIN) from None


def _tensor(path: Path, size: int, base: int, name: str, entry: Any) -> Tensor:
    kind, shape = str(entry["dtype"]), tuple(_whole(n) for n in entry["shape"])
    start, end = (_whole(n) for n in entry["data_offsets"])
    check_kind(path, name, kind)
    if start < 0 or min(shape, default=1) < 0 or end - start != prod(shape) * _TYPES[kind].itemsize:
        raise BadInput(f"{path}: the offsets of {name!r} do not match its shape", _AGAIN)
    if base + end > size:
        raise _cut(path)
    return Tensor(name, kind, shape, path, base + start, base + end)


def check_kind(path: Path, name: str, kind: str) -> None:
    """Raise BadInput when a tensor is stored in an unsupported type."""
    if kind not in _TYPES:
        raise BadInput(
            f"{path}: tensor {name!r} is stored as {kind}; only F32, F16 and BF16 are supported",
            "use the checkpoint that is not quantised",
        )


def _whole(value: object) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is not a whole number")
    return value


def _cut(path: Path) -> BadInput:
    return BadInput(f"{path} is truncated", _AGAIN)

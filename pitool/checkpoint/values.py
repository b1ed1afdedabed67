"""Values that no artifact can hold, found in the one pass over a file that also hashes it.

A value that is not finite makes every answer of a model meaningless; one beyond F16's largest is
infinite where F16 is written. Memory is bounded by a chunk, whatever the size of a tensor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pitool.checkpoint.tensors import Tensor, to_float32
from pitool.errors import BadInput

# A multiple of every element's size.
CHUNK_BYTES = 4 << 20
LARGEST_HALF = 65504.0
_WIDER = "choose BF16 or F32 instead of F16, or FP32 for ONNX"


@dataclass(frozen=True, slots=True)
class _Limits:
    """Of a type, as the bits of a magnitude: what is not finite, and what F16 has no number for."""

    bits: np.dtype[Any]
    magnitude: int
    infinite: int
    beyond_half: int


# The bits of magnitudes are in the order of the magnitudes. F16 rounds 65520 up to infinity.
_LIMITS = {
    "F16": _Limits(np.dtype("<u2"), 0x7FFF, 0x7C00, 0x7C00),
    "BF16": _Limits(np.dtype("<u2"), 0x7FFF, 0x7F80, 0x4780),
    "F32": _Limits(np.dtype("<u4"), 0x7FFFFFFF, 0x7F800000, 0x477FF000),
    # As what rounds to those in F32, into which all are cast.
    "F64": _Limits(
        np.dtype("<u8"), 0x7FFFFFFFFFFFFFFF, 0x47EFFFFFF0000000, 0x40EFFDFFF0000000
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Read:
    """A file that was read: its size, its SHA-256, and the first value that is wrong, if any."""

    bytes: int
    sha256: str
    wrong: BadInput | None


def read_through(path: Path, tensors: Collection[Tensor], halves: Collection[str] = ()) -> Read:
    """Hash a file and look at the values of some tensors in it, in one pass.

    ``halves``: names of those that will be stored in F16. The error of a wrong value is returned,
    because only who knows the right hash can tell whether the file is damaged.
    """
    digest, size, wrong = hashlib.sha256(), 0, None
    with path.open("rb") as file:
        for tensor, first, data in _chunks(file, tensors):
            digest.update(data)
            size += len(data)
            if tensor and not wrong:
                wrong = _wrong(tensor, first, data, half=tensor.name in halves)
    return Read(size, digest.hexdigest(), wrong)


def _chunks(
    file: BinaryIO, tensors: Collection[Tensor]
) -> Iterator[tuple[Tensor | None, int, bytes]]:
    """Yield the whole file in order: the tensor, its first element, and bytes; None for others.

    A tensor that begins within another is not looked at by itself.
    """
    at = 0
    for tensor in sorted((t for t in tensors if t.bytes), key=lambda t: t.start):
        if tensor.start < at:
            continue
        for _, data in _pieces(file, tensor.start - at):
            yield None, 0, data
        for done, data in _pieces(file, tensor.bytes):
            yield tensor, done // tensor.type.itemsize, data
        at = tensor.end
    while data := file.read(CHUNK_BYTES):
        yield None, 0, data


def _pieces(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
    done = 0
    while data := file.read(min(CHUNK_BYTES, size - done)):
        yield done, data
        done += len(data)


def _wrong(tensor: Tensor, first: int, data: bytes, *, half: bool) -> BadInput | None:
    """Return the error of the first value in a chunk that cannot be kept, None where all can."""
    limits = _LIMITS[tensor.kind]
    whole = len(data) // limits.bits.itemsize * limits.bits.itemsize
    bits = np.frombuffer(data[:whole], limits.bits) & limits.bits.type(limits.magnitude)
    limit = limits.beyond_half if half else limits.infinite
    if not bits.size or bits.max() < limit:
        return None
    at = int((bits >= limit).argmax())
    stored = np.frombuffer(data[:whole], tensor.type)[at : at + 1]
    value = float(stored[0]) if tensor.kind == "F64" else float(to_float32(stored, tensor.kind)[0])
    return wrong_value(tensor, first + at, value, infinite=bool(bits[at] >= limits.infinite))


def wrong_value(tensor: Tensor, element: int, value: float, *, infinite: bool) -> BadInput:
    """Return the error of an element of a tensor that an artifact cannot hold."""
    place = [int(i) for i in np.unravel_index(element, tensor.shape)] if tensor.shape else []
    shown = "NaN" if isnan(value) else f"{value:g}"
    where = f"{tensor.path}: {tensor.name!r} is {shown}{f' at {place}' if place else ''}"
    if not infinite:
        return BadInput(f"{where}, and F16 ends at {LARGEST_HALF:g}", _WIDER)
    return BadInput(
        f"{where}, which no artifact can hold",
        "use another revision of the checkpoint, or the one that it was made from",
    )


def check_half(values: NDArray[Any], tensor: Tensor) -> None:
    """Raise BadInput for values that F16 cannot hold, as the sum of a merge can be.

    ``values``: F16 that they were cast to, or float32 that is to be cast.
    """
    limits = _LIMITS["F16" if values.dtype.itemsize == 2 else "F32"]
    bits = values.view(limits.bits) & limits.bits.type(limits.magnitude)
    if bits.size and bits.max() >= limits.beyond_half:
        raise BadInput(
            f"{tensor.path}: {tensor.name!r} has values beyond {LARGEST_HALF:g}, where F16 ends",
            _WIDER,
        )

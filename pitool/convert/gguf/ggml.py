"""ggml's own kernels for tensor types: rows of floats to stored bytes and back.

By ctypes, so that what is written is what llama.cpp writes. Owns no file and no choice of a type.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pitool.catalog.binding import import_binding
from pitool.catalog.tensor_types import TensorType


def dequantise_rows(raw: NDArray[np.uint8], kind: TensorType) -> NDArray[np.float32]:
    """Return rows of stored bytes in float32, (rows, columns)."""
    if kind.name == "F32":
        return raw.view("<f4")
    if kind.name == "F16":
        halves = np.ascontiguousarray(raw).view("<f2")
        values = np.empty(halves.shape, np.float32)
        _library().ggml_fp16_to_fp32_row(halves.ctypes.data, values.ctypes.data, values.size)
        return values
    if kind.name == "BF16":
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    stored = np.ascontiguousarray(raw)
    values = np.empty((len(raw), raw.shape[1] // kind.block_bytes * kind.block), np.float32)
    traits = _library().ggml_get_type_traits(kind.number).contents
    traits.to_float(stored.ctypes.data, values.ctypes.data, values.size)
    return values


def quantise_rows(
    rows: NDArray[np.float32], kind: TensorType, importance: NDArray[np.float32] | None
) -> NDArray[np.uint8]:
    """Return rows (rows, columns) as ggml stores them in a type, (rows, bytes).

    ``importance`` (columns,): the weight of each column's error.
    """
    rows = np.ascontiguousarray(rows)
    count, columns = rows.shape
    packed = np.empty((count, kind.size((columns,))), np.uint8)
    weights = None if importance is None else np.ascontiguousarray(importance, np.float32)
    _library().ggml_quantize_chunk(
        kind.number, rows.ctypes.data, packed.ctypes.data, 0, count, columns,
        None if weights is None else weights.ctypes.data,
    )  # fmt: skip
    return packed


def is_valid(packed: NDArray[np.uint8], kind: TensorType) -> bool:
    """Tell whether stored bytes hold nothing that is not finite."""
    return bool(_library().ggml_validate_row_data(kind.number, packed.ctypes.data, packed.nbytes))


class _TypeTraits(ctypes.Structure):
    """``ggml_type_traits`` of the pinned llama.cpp (ggml.h), as far as it is used."""

    to_float: Callable[[int, int, int], None]

    _fields_: ClassVar = [
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
    ]


@cache
def _library() -> Any:
    library = import_binding("_ggml").libggml
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
        ctypes.c_int64, ctypes.c_void_p,
    ]  # fmt: skip
    library.ggml_fp16_to_fp32_row.restype = None
    library.ggml_fp16_to_fp32_row.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    library.ggml_validate_row_data.restype = ctypes.c_bool
    library.ggml_validate_row_data.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
    library.ggml_get_type_traits.restype = ctypes.POINTER(_TypeTraits)
    library.ggml_get_type_traits.argtypes = [ctypes.c_int]
    return library

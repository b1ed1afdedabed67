"""Sums the squares of what flows into each weight matrix: the raw material of an importance matrix.

By llama.cpp's evaluation callback, with the definition of its imatrix tool: for each column of a
matrix, the sum of the squared activations over all tokens; for each expert apart.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.catalog.binding import import_binding
from pitool.engine.base import Squares
from pitool.engine.llamacpp.library import llama_cpp

_F32 = 0


class _Tensor(ctypes.Structure):
    """``ggml_tensor`` of the pinned llama.cpp (ggml.h)."""

    type: int
    ne: ctypes.Array[ctypes.c_int64]
    nb: ctypes.Array[ctypes.c_size_t]
    op: int
    src: Any
    data: int
    name: bytes


_Tensor._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(_Tensor) * 10),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
]


class Collector:
    """Give ``callback`` to a context, evaluate, and ask for ``squares``."""

    def __init__(self) -> None:
        library = import_binding("_ggml").libggml  # it brings libggml-base
        library.ggml_op_name.restype = ctypes.c_char_p
        names = {library.ggml_op_name(i): i for i in range(60)}
        self._dense, self._experts = names[b"MUL_MAT"], names[b"MUL_MAT_ID"]
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._counts: dict[str, NDArray[np.int64]] = {}
        self.callback = llama_cpp.ggml_backend_sched_eval_callback(self._receive)

    def squares(self) -> dict[str, Squares]:
        """Return what was summed so far, by tensor name."""
        return {name: Squares(self._sums[name], self._counts[name]) for name in self._sums}

    def _receive(self, address: Any, ask: bool, _: Any) -> bool:
        tensor = ctypes.cast(address, ctypes.POINTER(_Tensor)).contents
        if tensor.op not in (self._dense, self._experts):
            return not ask
        name = tensor.src[0].contents.name.decode(errors="replace")
        inputs = tensor.src[1].contents
        if not name.endswith(".weight") or inputs.type != _F32:
            return not ask
        if not ask:
            self._add(name, tensor, inputs)
        return True

    def _add(self, name: str, tensor: _Tensor, inputs: _Tensor) -> None:
        experts = tensor.src[0].contents.ne[2]
        columns = inputs.ne[0]
        if name not in self._sums:
            self._sums[name] = np.zeros((experts, columns))
            self._counts[name] = np.zeros(experts, np.int64)
        sums, counts = self._sums[name], self._counts[name]
        rows = _array(inputs, np.float32)
        if tensor.op == self._dense:
            flat = rows.reshape(-1, columns).astype(np.float64)
            sums[0] += np.einsum("ij,ij->j", flat, flat)
            counts[0] += len(flat)
            return
        chosen = _array(tensor.src[2].contents, np.int32)[0, 0]  # (tokens, experts used)
        for token, ids in enumerate(chosen):
            for slot, expert in enumerate(ids):
                row = rows[0, token, slot % inputs.ne[1]].astype(np.float64)
                sums[expert] += row * row
                counts[expert] += 1


def _array(tensor: _Tensor, kind: Any) -> NDArray[Any]:
    """Return a view of a tensor in host memory, the longest axis of ggml last."""
    size = sum((tensor.ne[i] - 1) * tensor.nb[i] for i in range(4)) + np.dtype(kind).itemsize
    raw = (ctypes.c_char * size).from_address(tensor.data)
    return np.ndarray(tuple(tensor.ne)[::-1], kind, raw, 0, tuple(tensor.nb)[::-1])

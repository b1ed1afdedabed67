"""llama.cpp's RPC backend: layers on other machines, and this machine as a server of layers.

A lost connection aborts the process that holds it, so both sides live in processes of their own.
The protocol has no names and no keys: who can reach a server can use it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pitool.catalog.binding import import_binding
from pitool.engine.base import Settings
from pitool.engine.llamacpp.library import llama_cpp, load_backends
from pitool.errors import MissingPart, PitoolError

# An RPC backend that is not part of the installed llama.cpp; ggml's own name for it.
OUT_OF_TREE = "GGML_BACKEND_PATH"
_CPU = 0  # GGML_BACKEND_DEVICE_TYPE_CPU
_POINTER = ctypes.c_void_p
# What the head is called in a file: its own name, or that of the embedding where both are one.
_HEADS = (b"^output\\.weight$", b"^token_embd\\.weight$")


class _Override(ctypes.Structure):
    """``llama_model_tensor_buft_override``: tensors by a pattern, and where they are held."""

    _fields_ = [("pattern", ctypes.c_char_p), ("buffer_type", _POINTER)]


def place_layers(params: Any, settings: Settings) -> Sequence[object]:
    """Have the last layers held by the servers of ``settings``; return what lives until the load.

    The servers were asked beforehand: one that cannot be reached, or speaks another version, ends
    this process.
    """
    found = [_device(address) for address in settings.servers]
    devices = (_POINTER * (len(found) + 1))(*found, None)
    counts = [float(count) for count in settings.server_layers]
    counts[-1] += 1  # llama.cpp counts the head as a layer, which comes last
    split = (ctypes.c_float * llama_cpp.llama_max_devices())(*counts)
    overrides = (_Override * (len(_HEADS) + 1))()
    if settings.head_here:
        here = _function("ggml_backend_cpu_buffer_type", _POINTER)()
        for place, pattern in enumerate(_HEADS):
            overrides[place] = _Override(pattern, here)
    params.devices = ctypes.cast(devices, _POINTER)
    params.tensor_split = split
    params.tensor_buft_overrides = ctypes.cast(overrides, _POINTER)
    params.n_gpu_layers = int(sum(counts))
    return devices, split, overrides


def start_server(address: str, cache: Path | None, threads: int) -> None:
    """Serve this machine's CPU at ``IPV4:PORT`` until the process ends.

    ``cache``: a folder for large tensors, which are sent once. Raises MissingPart where llama.cpp
    was built without the backend; PitoolError where it cannot listen.
    """
    kind = ctypes.CFUNCTYPE(
        None,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_size_t,
        ctypes.POINTER(_POINTER),
    )
    start = _of_backend("ggml_backend_rpc_start_server", kind)
    cpu = _function("ggml_backend_dev_by_type", _POINTER, ctypes.c_int)(_CPU)
    devices = (_POINTER * 1)(cpu)
    folder = os.fsencode(cache) if cache else None
    start(address.encode(), folder, threads, len(devices), devices)
    raise PitoolError(f"llama.cpp cannot listen at {address}", "choose another --host or --port")


def require_backend() -> None:
    """Raise MissingPart where the installed llama.cpp has no RPC backend."""
    _backend()


def _device(address: str) -> int:
    """Return the device of a server; each has one, its CPU."""
    kind = ctypes.CFUNCTYPE(_POINTER, ctypes.c_char_p)
    server = _of_backend("ggml_backend_rpc_add_server", kind)(address.encode())
    if not server:
        raise PitoolError(f"{address} offers no device", "start pitool cluster serve there again")
    device = _function("ggml_backend_reg_dev_get", _POINTER, _POINTER, ctypes.c_size_t)
    return int(device(server, 0))


def _of_backend(name: str, kind: Callable[[int], Any]) -> Any:
    """Return a function that only the backend has."""
    look_up = _function("ggml_backend_reg_get_proc_address", _POINTER, _POINTER, ctypes.c_char_p)
    return kind(look_up(_backend(), name.encode()))


def _backend() -> int:
    """Return the backend: part of llama.cpp, or a library of its own that is loaded first."""
    load_backends()
    find = _function("ggml_backend_reg_by_name", _POINTER, ctypes.c_char_p)
    path = os.environ.get(OUT_OF_TREE)
    if not find(b"RPC") and path:
        _function("ggml_backend_load", _POINTER, ctypes.c_char_p)(os.fsencode(path))
    backend = find(b"RPC")
    if not backend:
        raise MissingPart(
            "this llama.cpp was built without its RPC backend, which a cluster needs",
            "install pitool again: ./install.sh, or push it to the board anew",
        )
    return int(backend)


def _function(name: str, result: Any, *arguments: Any) -> Any:
    """Return a function of ggml with its C types; the binding declares none of these."""
    found = getattr(import_binding("_ggml").libggml, name)
    found.restype, found.argtypes = result, arguments
    return found

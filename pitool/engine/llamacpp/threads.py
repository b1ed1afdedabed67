"""The threads that compute: pools that stay, and where, how eagerly and how urgently they run.

A llama.cpp that is built without OpenMP starts its threads for every pass over the weights and ends
them after it, unless a pool is attached to the context. One that is built with OpenMP keeps its
threads anyway, and takes of a pool only the cores and the priority.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

from pitool.catalog.binding import import_binding
from pitool.engine.base import Settings
from pitool.engine.llamacpp.library import cpu_features, llama_cpp
from pitool.errors import UsageError

_CPU = 0  # GGML_BACKEND_DEVICE_TYPE_CPU
_MOST = 512  # GGML_MAX_N_THREADS
_NORMAL, _MEDIUM = 0, 1  # enum ggml_sched_priority
# What the kernel is asked for _MEDIUM (ggml_thread_apply_priority).
_URGENCY = 40


class _Params(ctypes.Structure):
    """ggml's ``ggml_threadpool_params``."""

    _fields_ = (
        ("cpumask", ctypes.c_bool * _MOST),
        ("n_threads", ctypes.c_int),
        ("prio", ctypes.c_int),
        ("poll", ctypes.c_uint32),
        ("strict_cpu", ctypes.c_bool),
        ("paused", ctypes.c_bool),
    )


class ThreadPools:
    """The pools of a context for decode and prefill, one for both where they are as large.

    UsageError where the system does not allow the priority.
    """

    def __init__(self, context: Any, settings: Settings) -> None:
        self._pools: list[int] = []
        usual = settings.priority == "normal" and not settings.pinned
        if "OPENMP" in cpu_features().split() and usual:
            return
        if settings.priority != "normal":
            _check_priority()
        self._new, self._free = _functions()
        counts = [settings.prefill_threads, settings.decode_threads]
        prefill = self._make(settings, counts[0])
        decode = prefill
        if counts[0] != counts[1]:
            decode = self._make(settings, counts[1], paused=True)
        attach = llama_cpp._lib.llama_attach_threadpool
        attach.argtypes, attach.restype = [ctypes.c_void_p] * 3, None
        attach(context, decode, prefill)

    def _make(self, settings: Settings, count: int, *, paused: bool = False) -> int:
        params = _Params(n_threads=count, poll=settings.polling, paused=paused)
        params.prio = _NORMAL if settings.priority == "normal" else _MEDIUM
        if settings.pinned:
            params.strict_cpu = True
            for core in os.sched_getaffinity(0):
                params.cpumask[core] = True
        made: int = self._new(ctypes.byref(params))
        self._pools.append(made)
        return made

    def close(self) -> None:
        """End the threads; the context must be gone."""
        for pool in self._pools:
            self._free(pool)
        self._pools.clear()


def _functions() -> tuple[Any, Any]:
    """Return what makes and frees a pool, of the backend that was loaded for this CPU."""
    library = import_binding("_ggml").libggml
    for name in ("dev_by_type", "dev_backend_reg", "reg_get_proc_address"):
        getattr(library, f"ggml_backend_{name}").restype = ctypes.c_void_p
    device = library.ggml_backend_dev_by_type(_CPU)
    backend = library.ggml_backend_dev_backend_reg(ctypes.c_void_p(device))

    def function(name: bytes, result: Any, argument: Any) -> Any:
        address = library.ggml_backend_reg_get_proc_address(ctypes.c_void_p(backend), name)
        return ctypes.CFUNCTYPE(result, argument)(address)

    new = function(b"ggml_threadpool_new", ctypes.c_void_p, ctypes.POINTER(_Params))
    return new, function(b"ggml_threadpool_free", None, ctypes.c_void_p)


def _check_priority() -> None:
    """Try the priority on this thread, for a thread of a pool that may not have it only warns."""
    before, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_URGENCY))
    except OSError as error:
        raise UsageError(
            f"the system does not allow a high priority ({error.strerror})",
            "raise the limit of real-time priority (ulimit -r), or leave it normal",
        ) from None
    os.sched_setscheduler(0, before, parameters)

"""onnxruntime itself: imported so that it keeps quiet, its sessions and its errors.

Its builds since 1.32 collect telemetry on Linux: they write a device id and a database into the
user's cache from the import on, and send them. Only this variable, set before, prevents it
(onnxruntime's Privacy.md); ``disable_telemetry_events`` comes too late.
"""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from pitool.catalog.onnx import OnnxFolder
from pitool.engine.base import Settings
from pitool.errors import BadInput, DoesNotFit


def _import_quietly() -> tuple[ModuleType, tuple[type[Exception], ...]]:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    onnxruntime.set_default_logger_severity(FATAL)
    kinds = (each for each in vars(state).values() if isinstance(each, type))
    return onnxruntime, tuple(each for each in kinds if issubclass(each, Exception))


FATAL = 4
_MCL_CURRENT = 1
onnxruntime, _errors = _import_quietly()
# onnxruntime's own errors have no common class; a run with bound buffers raises RuntimeError.
FAULTS: tuple[type[Exception], ...] = (RuntimeError, *_errors)


def open_session(folder: OnnxFolder, settings: Settings) -> Any:
    """Return onnxruntime's session; BadInput when it refuses the graph."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL
    options.intra_op_num_threads = settings.decode_threads
    options.inter_op_num_threads = 1
    # A pattern is kept for each shape, and the attention mask has another one for every token.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    if sums_saturate():
        # It copies the weights of dynamic INT8 to have 32 bits for their sums, as an ARM board has.
        options.add_session_config_entry("session.x64quantprecision", "1")
    if not settings.repack:
        options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        session = onnxruntime.InferenceSession(
            os.fspath(folder.graph), options, providers=["CPUExecutionProvider"]
        )
    except FAULTS as error:
        raise BadInput(
            f"onnxruntime cannot load {folder.graph} ({reason(error)})", "convert or copy it again"
        ) from None
    if settings.load_mode == "mlock":
        _lock_memory()
    return session


def sums_saturate(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Tell whether onnxruntime may sum products of bytes in 16 bits here: on x86 without VNNI."""
    try:
        said = cpuinfo.read_text()
    except OSError:  # macOS has none; on ARM the option does nothing
        return True
    flags = re.search(r"^flags\s*:(.*)$", said, re.MULTILINE)
    return flags is not None and "vnni" not in flags[1]


def _lock_memory() -> None:
    """Keep from swap what this process holds now."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT) != 0:
        raise DoesNotFit(
            f"the memory cannot be locked ({os.strerror(ctypes.get_errno())})",
            "raise the limit with ulimit -l, or load without mlock",
        )


def reason(error: Exception) -> str:
    """Return what onnxruntime says went wrong, without its prefix, in one line."""
    text = str(error).strip().partition("\n")[0]
    return text.rpartition("] : ")[2].split(" : ", 2)[-1][:300]

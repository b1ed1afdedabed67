"""onnxruntime, imported so that it keeps quiet.

Its builds since 1.32 collect telemetry on Linux: they write a device id and a database into the
user's cache from the import on, and send them. Only this variable, set before, prevents it
(onnxruntime's Privacy.md); ``disable_telemetry_events`` comes too late.
"""

from __future__ import annotations

import os
from types import ModuleType


def _import_quietly() -> tuple[ModuleType, tuple[type[Exception], ...]]:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    onnxruntime.set_default_logger_severity(FATAL)
    kinds = (each for each in vars(state).values() if isinstance(each, type))
    return onnxruntime, tuple(each for each in kinds if issubclass(each, Exception))


FATAL = 4
onnxruntime, _errors = _import_quietly()
# onnxruntime's own errors have no common class; a run with bound buffers raises RuntimeError.
FAULTS: tuple[type[Exception], ...] = (RuntimeError, *_errors)

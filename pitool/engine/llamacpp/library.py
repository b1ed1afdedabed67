"""The llama.cpp library itself: its binding, backends, log, and a cancel flag it can look at."""

from __future__ import annotations

import ctypes
import os
import re
from collections import deque
from pathlib import Path
from typing import Any

from pitool.catalog.binding import import_binding

_WARNING = 3


llama_cpp = import_binding()


class Log:
    """Keeps llama.cpp's last warnings and errors, which say why a call failed."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=20)
        self._callback = llama_cpp.llama_log_callback(self._receive)
        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _receive(self, level: int, text: bytes, _: Any) -> None:
        if level >= _WARNING:
            self.lines.append(text.decode(errors="replace").strip())

    @property
    def reason(self) -> str:
        """The first error that was said."""
        errors = [line for line in self.lines if "error" in line.lower() or "fail" in line.lower()]
        return (errors or list(self.lines) or ["llama.cpp gave no reason"])[0]


class CancelFlag:
    """A flag that llama.cpp looks at between graph nodes, without a call into Python.

    The abort callback is C's ``strlen`` on a two-byte buffer: 0 while it holds an empty string,
    1 after ``set``. A Python callback would take the interpreter's lock a thousand times a token.
    """

    def __init__(self) -> None:
        self._buffer = ctypes.create_string_buffer(2)
        self.callback = ctypes.cast(ctypes.CDLL(None).strlen, llama_cpp.ggml_abort_callback)
        self.data = ctypes.cast(self._buffer, ctypes.c_void_p)

    def set(self) -> None:
        """Ask the running decode to stop."""
        self._buffer[0] = b"\x01"

    def clear(self) -> None:
        """Take the request back."""
        self._buffer[0] = b"\x00"

    def is_set(self) -> bool:
        """Tell whether a stop was asked for."""
        return bool(self._buffer[0] != b"\x00")


def load_backends() -> None:
    """Load the CPU variants of a wheel that was built with run-time dispatch."""
    library = import_binding("_ggml").libggml
    if library.ggml_backend_dev_count() == 0:
        folder = Path(llama_cpp.__file__).parent / "lib"
        library.ggml_backend_load_all_from_path(os.fsencode(folder))


def cpu_features() -> str:
    """Return the CPU features that the loaded kernels use, such as ``AVX2 FMA REPACK``."""
    text = llama_cpp.llama_print_system_info().decode(errors="replace")
    parts = text.replace("CPU :", "").split("|")
    return " ".join(part.split("=")[0].strip() for part in parts if part.strip().endswith("= 1"))


def cpu_variant() -> str | None:
    """Return the CPU variant that was loaded, such as ``armv8.2_2``; None where there is one."""
    try:
        mapped = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"libggml-cpu-(\S+)\.so", mapped)
    return found[1] if found else None


def describe_cpu() -> str:
    """Return the CPU variant, where the build has several, and the features it uses."""
    return " ".join(filter(None, (cpu_variant(), cpu_features())))

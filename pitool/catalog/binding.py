"""llama-cpp-python's ctypes modules without the package around them.

``import llama_cpp`` also loads its chat formats, server types and disk cache, six times the import
time and 11 MB more, on a board where both count; and it opens files that nobody closes.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from typing import Any


def import_binding(name: str = "llama_cpp") -> Any:
    """Return a module of the package, by default the binding; ImportError where there is none."""
    if "llama_cpp" not in sys.modules:
        spec = importlib.util.find_spec("llama_cpp")
        if spec is None or spec.submodule_search_locations is None:
            raise ImportError("llama-cpp-python is not installed")
        package = types.ModuleType("llama_cpp")
        package.__path__ = list(spec.submodule_search_locations)
        package.__spec__ = spec
        sys.modules["llama_cpp"] = package
    return importlib.import_module(f"llama_cpp.{name}")

"""Which engine runs which format: the one table of engines."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from pitool.catalog import tables
from pitool.engine.base import Engine, Settings
from pitool.errors import BadInput, MissingPart

# Format of an artifact -> module and class, imported when used: a board may lack a runtime.
ENGINES = {
    "gguf": ("pitool.engine.llamacpp", "LlamaCpp"),
    "onnx": ("pitool.engine.onnx", "Onnx"),
    "script": ("pitool.engine.scripted", "ScriptFile"),
}


def load(
    format_name: str,
    entry: Path,
    settings: Settings,
    on_progress: Callable[[float], None] | None = None,
) -> Engine:
    """Load an artifact in this process; ``on_progress`` gets shares from 0 to 1."""
    module, name = tables.lookup(ENGINES, format_name, "engine for format", BadInput)
    try:
        engine = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise MissingPart(
            f"the runtime for {format_name} is not installed ({error})", "run ./install.sh again"
        ) from None
    loaded: Engine = engine(entry, settings, on_progress)
    return loaded

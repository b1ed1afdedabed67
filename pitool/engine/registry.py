"""Which engine runs which format: the one table of engines.

An engine is one module and one row here. It opens what ``catalog.bundles`` calls an artifact's
entry; of a format without a row in ``planning.formats`` nothing is predicted, and it runs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from pitool.catalog import tables
from pitool.engine.base import Engine, Settings
from pitool.errors import BadInput, MissingPart

# Format of an artifact -> module and class, imported when used: a board may lack a runtime.
ENGINES = {
    "gguf": "pitool.engine.llamacpp:LlamaCpp",
    "onnx": "pitool.engine.onnx:Onnx",
    "script": "pitool.engine.scripted:ScriptFile",
}


def find_engine(format_name: str) -> str:
    """Return module and class of the engine for a format; BadInput names the nearest format."""
    return tables.lookup(ENGINES, format_name, "model format", BadInput)


def load(
    engine: str,
    entry: Path,
    settings: Settings,
    on_progress: Callable[[float], None] | None = None,
) -> Engine:
    """Load an artifact in this process; ``engine``: module and class, as the table has them.

    ``on_progress`` gets shares from 0 to 1.
    """
    module, _, name = engine.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise MissingPart(
            f"the runtime for {name} is not installed ({error})", "run ./install.sh again"
        ) from None
    loaded: Engine = found(entry, settings, on_progress)
    return loaded

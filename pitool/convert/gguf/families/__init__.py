"""The model families that are converted natively, one a file, named by ``model_type``.

A family maps the settings and tensors of a checkpoint to GGUF. This table names them all.
"""

from __future__ import annotations

import importlib

from pitool.checkpoint.config import Config
from pitool.convert.gguf.families.base import Family
from pitool.errors import BadInput

FAMILIES = {
    "llama": "pitool.convert.gguf.families.llama",
    "qwen2": "pitool.convert.gguf.families.qwen2",
}


def find_family(config: Config) -> Family:
    """Return the family of a checkpoint; BadInput names the supported ones."""
    name = config.model_type
    if name not in FAMILIES:
        raise BadInput(
            f"{config.path.parent} is a {name!r} model ({config.architecture}),"
            " which pitool does not convert",
            f"supported are {', '.join(FAMILIES)}",
        )
    family: Family = importlib.import_module(FAMILIES[name]).FAMILY
    return family

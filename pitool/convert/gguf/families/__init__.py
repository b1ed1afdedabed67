"""The model families that are converted natively, one a file, named by ``model_type``.

A family maps the settings and tensors of a checkpoint to GGUF. This table names them all.
"""

from __future__ import annotations

import importlib

from pitool.checkpoint.config import GGUF, Config
from pitool.convert.gguf.families.base import Family

_FILES = {"gemma3_text": "gemma3"}
FAMILIES = {
    name: f"{__name__}.{_FILES.get(name, name)}"
    for name in (
        "gemma2",
        "gemma3",
        "gemma3_text",
        "gpt2",
        "gpt_neox",
        "granite",
        "lfm2",
        "llama",
        "mistral",
        "olmo2",
        "phi3",
        "qwen2",
        "qwen3",
        "qwen3_moe",
        "smollm3",
        "stablelm",
    )
}


def find_family(config: Config, *, convertible: bool = True) -> Family:
    """Return the native family of a checkpoint, that of a GGUF, or of llama.cpp's own converter.

    BadInput or MissingPart when none can convert it, unless only its sizes are wanted:
    ``convertible`` is False.
    """
    name = config.model_type
    if name == GGUF:
        from pitool.convert.gguf.stored import Stored

        return Stored(config.path)
    if name not in FAMILIES:
        from pitool.convert.gguf.fallback import Foreign, find_foreign

        return find_foreign(config) if convertible else Foreign(config.model_type)
    family: Family = importlib.import_module(FAMILIES[name]).FAMILY
    return family


def architectures() -> frozenset[str]:
    """Return GGUF's names of the architectures of all families."""
    modules = (importlib.import_module(name) for name in FAMILIES.values())
    return frozenset(module.FAMILY.architecture for module in modules)

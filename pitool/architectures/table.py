"""The one table of the families, and the reading of a checkpoint's settings by it.

A new family is one file beside this one, which has an ``ARCHITECTURE``, and one row here.
"""

from __future__ import annotations

import importlib

from pitool.architectures.base import Architecture
from pitool.architectures.description import Description
from pitool.architectures.settings import Settings
from pitool.checkpoint.config import Config
from pitool.errors import BadInput

# The module of each ``model_type``, imported when a checkpoint asks for it.
TABLE: dict[str, str] = {
    "apertus": "pitool.architectures.apertus",
    "bert": "pitool.architectures.bert",
    "ernie4_5": "pitool.architectures.ernie4_5",
    "exaone4": "pitool.architectures.exaone4",
    "gemma2": "pitool.architectures.gemma2",
    "gemma3": "pitool.architectures.gemma3",
    "gemma3_text": "pitool.architectures.gemma3",
    "gemma3n": "pitool.architectures.gemma3n",
    "gemma3n_text": "pitool.architectures.gemma3n",
    "gemma4": "pitool.architectures.gemma4",
    "gemma4_text": "pitool.architectures.gemma4",
    "glm4": "pitool.architectures.glm4",
    "gpt2": "pitool.architectures.gpt2",
    "gpt_neox": "pitool.architectures.gpt_neox",
    "gpt_oss": "pitool.architectures.gpt_oss",
    "granite": "pitool.architectures.granite",
    "granite_swa": "pitool.architectures.granite_swa",
    "granitemoehybrid": "pitool.architectures.granitemoehybrid",
    "hunyuan_v1_dense": "pitool.architectures.hunyuan",
    "lfm2": "pitool.architectures.lfm2",
    "lfm2_moe": "pitool.architectures.lfm2_moe",
    "llama": "pitool.architectures.llama",
    "ministral3": "pitool.architectures.ministral3",
    "mistral": "pitool.architectures.mistral",
    "mistral3": "pitool.architectures.ministral3",
    "mixtral": "pitool.architectures.mixtral",
    "olmo2": "pitool.architectures.olmo2",
    "olmoe": "pitool.architectures.olmoe",
    "phi3": "pitool.architectures.phi3",
    "qwen2": "pitool.architectures.qwen2",
    "qwen3": "pitool.architectures.qwen3",
    "qwen3_5": "pitool.architectures.qwen3_5",
    "qwen3_5_text": "pitool.architectures.qwen3_5",
    "qwen3_moe": "pitool.architectures.qwen3_moe",
    "seed_oss": "pitool.architectures.seed_oss",
    "smollm3": "pitool.architectures.smollm3",
    "stablelm": "pitool.architectures.stablelm",
    "starcoder2": "pitool.architectures.starcoder2",
}


def find(model_type: str) -> Architecture | None:
    """Return the family of a ``model_type``, None for one that is not in the table."""
    if model_type not in TABLE:
        return None
    found: Architecture = importlib.import_module(TABLE[model_type]).ARCHITECTURE
    return found


def describe(config: Config) -> Description:
    """Return what a checkpoint's settings mean.

    BadInput for a family that is not in the table, for a value that cannot be, and for a setting
    that the family's file does not know.
    """
    architecture = find(config.model_type)
    if architecture is None:
        raise BadInput(
            f"{config.path.parent} is a {config.model_type!r} model, which pitool does not support",
            f"convert one of: {', '.join(TABLE)}",
        )
    settings = Settings(config)
    description = architecture.describe(settings)
    settings.check_all_read()
    return description


def gguf_architectures() -> frozenset[str]:
    """Return llama.cpp's names of the families whose GGUF is written here."""
    files = (architecture.gguf for name in TABLE if (architecture := find(name)))
    return frozenset(file.architecture for file in files if file)

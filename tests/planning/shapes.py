"""Model shapes for tests, made without a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pitool.catalog.model_shape import ModelShape
from pitool.checkpoint.config import Config
from pitool.convert.gguf.model import model_shape
from tests.tiny import LLAMA


def config(**changes: Any) -> Config:
    """Return the settings of the tiny Llama with some changed."""
    return Config({**LLAMA, **changes}, Path("config.json"))


def shape(**changes: Any) -> ModelShape:
    """Return the shape of the tiny Llama with some settings changed."""
    changed = config(**changes)
    return model_shape(changed)

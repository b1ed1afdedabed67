"""A tiny model for the tests of the engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.checkpoint.source import Source, open_checkpoint
from pitool.convert.gguf.model import find_model
from pitool.convert.gguf.vocabulary import read_vocabulary
from pitool.convert.gguf.writer import write_gguf


@pytest.fixture(scope="session")
def tiny_gguf(tiny_checkpoint: Path) -> Path:
    """The tiny checkpoint as a GGUF in float32."""
    checkpoint = open_checkpoint(Source("tiny", None, tiny_checkpoint))
    model = find_model(checkpoint.config)
    shape = model.shape
    path = tiny_checkpoint.parent / "tiny-F32.gguf"
    vocabulary = read_vocabulary(tiny_checkpoint, shape.vocabulary)
    write_gguf(path, checkpoint, model, vocabulary, QUANTISATIONS["F32"])
    return path

"""Bytes in memory read from a graph against the plan made from the shape alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from pitool.checkpoint.config import read_config
from pitool.convert.gguf.model import model_shape
from pitool.convert.techniques.assemble import footprint
from pitool.convert.techniques.base import ArtifactFiles
from pitool.planning.formats.onnx import plan_onnx
from pitool.planning.memory import Load
from pitool.planning.onnx_weights import ONNX_QUANTISATIONS
from tests.convert.helpers import write_float
from tests.convert.onnx.helpers import written
from tests.tiny import write_checkpoint


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["FP32", "FP16", "INT8", "INT8_DYNAMIC", "INT4_ASYMMETRIC"])
def test_a_graphs_memory_is_that_of_the_plan(tmp_path: Path, kind: str, tied: bool) -> None:
    source = write_checkpoint(tmp_path / "c", tie_word_embeddings=tied)
    config = read_config(source)
    shape = model_shape(config)
    found = footprint(ArtifactFiles("onnx", written(source, tmp_path, kind)), shape)
    planned = plan_onnx(shape, ONNX_QUANTISATIONS[kind], Load(1024))
    assert found.memory.total == pytest.approx(planned.total, rel=1e-3)  # zero points aside


def test_the_weights_of_a_gguf_are_its_tensors(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "c")
    config = read_config(source)
    shape = model_shape(config)
    path = write_float(source, tmp_path / "f.gguf", "F32")
    found = footprint(ArtifactFiles("gguf", path), shape)
    assert found.weights == 4 * shape.parameters
    assert found.weights < found.files == path.stat().st_size

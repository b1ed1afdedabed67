"""The writer's blocks are those of onnxruntime's own quantizer on the same float graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pitool.convert.onnx.export import _blocks
from pitool.convert.onnx.writer import write_onnx
from pitool.spec.onnx_weights import find_onnx_quantisation
from tests.convert.helpers import checkpoint_of
from tests.tiny import write_checkpoint

pytest.importorskip("onnx_ir")  # the quantizer's own need


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantizer") / "c"
    return write_checkpoint(folder, num_hidden_layers=2, tie_word_embeddings=False)


def plain(path: Path) -> Any:
    """Return a float graph with products as the quantizer knows them: no transposed weights."""
    model = onnx.load(path)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "FusedMatMul":
            values = numpy_helper.to_array(weights[node.input[1]])
            turned = numpy_helper.from_array(np.ascontiguousarray(values.T), f"{node.name}.turned")
            model.graph.initializer.append(turned)
            node.op_type, node.domain, node.input[1] = "MatMul", "", turned.name
            del node.attribute[:]
    return model


def products(model: Any) -> dict[str, list[bytes]]:
    """Return what each product's matrix is stored as, by the name of its node."""
    stored = {t.name: numpy_helper.to_array(t).tobytes() for t in model.graph.initializer}
    return {
        node.name.removesuffix("_Q4").removesuffix("_Q8"): [
            stored[name] for name in node.input[1:] if name in stored
        ]
        for node in model.graph.node
        if node.op_type == "MatMulNBits"
    }


@pytest.mark.parametrize("name", ["INT4", "INT4_B64", "INT8"])
def test_every_matrix_has_the_same_bytes(checkpoint: Path, tmp_path: Path, name: str) -> None:
    kind = find_onnx_quantisation(name)
    opened = checkpoint_of(checkpoint)
    exact = write_onnx(tmp_path / "float", opened, find_onnx_quantisation("FP32"))
    theirs = products(_blocks(plain(exact / "model.onnx"), kind, kind.bits, []))
    ours = products(onnx.load(write_onnx(tmp_path / "ours", opened, kind) / "model.onnx"))
    assert len(ours) > 10
    assert ours == theirs

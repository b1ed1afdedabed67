"""The engine sums products of bytes in 32 bits on every CPU, as a board does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pitool.catalog.onnx import Names, OnnxFolder
from pitool.engine.base import Settings
from pitool.engine.onnx.runtime import open_session, sums_saturate

pytestmark = pytest.mark.engine

INPUTS, OUTPUTS = 64, 16


def test_large_products_do_not_saturate(tmp_path: Path) -> None:
    """Two products of 255 x 127 are more than 16 bits hold."""
    weights = np.full((INPUTS, OUTPUTS), 127, np.int8)
    scales = np.full(OUTPUTS, 0.01, np.float32)
    node = helper.make_node(
        "DynamicQuantizeMatMul", ["a", "weights", "scales"], ["y"], domain="com.microsoft"
    )
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, [1, INPUTS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, OUTPUTS])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(scales, "scales"),
        ],
    )
    versions = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    file = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=versions, ir_version=9), file)
    folder = OnnxFolder(
        tmp_path, "product", "none", file, (file,), 0, 1, 1, 1, 8, frozenset(), Names()
    )
    session = open_session(folder, Settings(context=8, decode_threads=1, prefill_threads=1))
    (made,) = session.run(None, {"a": np.ones((1, INPUTS), np.float32)})
    assert made == pytest.approx(INPUTS * 127 * 0.01)


@pytest.mark.parametrize(
    ("said", "saturate"),
    [
        ("processor\t: 0\nflags\t\t: fpu sse2 avx2 fma\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx_vnni\n", False),
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_vnni amx_int8\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd asimddp\n", False),
    ],
)
def test_weights_are_copied_only_where_sums_would_saturate(
    tmp_path: Path, said: str, saturate: bool
) -> None:
    (tmp_path / "cpuinfo").write_text(said)
    assert sums_saturate(tmp_path / "cpuinfo") is saturate


def test_a_machine_that_does_not_tell_its_instructions_is_taken_for_an_old_one(
    tmp_path: Path,
) -> None:
    assert sums_saturate(tmp_path / "cpuinfo")

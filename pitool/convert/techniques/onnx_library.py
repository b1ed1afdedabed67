"""ONNX INT8 by onnxruntime's own tool: ``quantize_dynamic`` on the float graph.

One scale per weight, the tool's default. The tool holds the whole model in memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from pitool.convert.onnx.export import without_advice
from pitool.convert.onnx.graph import DATA, GRAPH
from pitool.convert.onnx.weights import Part, Weights
from pitool.convert.onnx.writer import write_onnx
from pitool.convert.techniques.base import ArtifactFiles, Technique
from pitool.convert.techniques.workbench import Workbench
from pitool.planning.onnx_weights import ONNX_QUANTISATIONS


class PlainWeights(Weights):
    """``Weights`` with the standard MatMul, which the tool supports, on transposed matrices."""

    def matmul(
        self,
        value: str,
        name: str,
        parts: Sequence[Part],
        *,
        head: bool = False,  # noqa: ARG002 - the head is a matrix like any other
    ) -> str:
        """Write the matrix with inputs first and multiply."""
        bias = self._bias(name, parts)
        weight = self._transposed(f"{name}.weight", np.concatenate(list(self._slabs(parts))))
        if not bias:
            return self._graph.node("MatMul", [value, weight], name)
        product = self._graph.node("MatMul", [value, weight], f"{name}.product")
        return self._graph.node("Add", [product, bias], name)

    def embedding(self, ids: str, part: Part) -> tuple[str, None]:
        """Write the embedding apart from the head, since the tool quantises only the embedding."""
        hidden, _ = super().embedding(ids, part)
        return hidden, None


def make(bench: Workbench) -> ArtifactFiles:
    """Write the float graph and have the tool quantise it."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    plain, folder = bench.folder / "float", bench.folder / "onnx-int8"
    bench.progress.stage("quantising with onnxruntime", 1)
    write_onnx(plain, bench.checkpoint, ONNX_QUANTISATIONS["FP32"], make_weights=PlainWeights)
    shutil.copytree(plain, folder, ignore=shutil.ignore_patterns(GRAPH, DATA))
    options: dict[str, Any] = {"DefaultTensorType": TensorProto.FLOAT}
    with without_advice():
        quantize_dynamic(
            plain / GRAPH,
            folder / GRAPH,
            op_types_to_quantize=["MatMul", "Gather"],
            weight_type=QuantType.QInt8,
            use_external_data_format=True,
            extra_options=options,
        )
    shutil.rmtree(plain)
    return ArtifactFiles("onnx", folder)


TECHNIQUE = Technique(
    name="onnx-int8",
    title="ONNX INT8",
    effect="Rounds each weight to 8 bits with one scale, and each product's input at run time.",
    source="onnxruntime.quantization.quantize_dynamic",
    make=make,
    bits=8,
    kernel="onnxruntime",
)

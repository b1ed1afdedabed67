"""Static INT8: the range of every product's input is measured in advance on a calibration text.

Weights are rounded per row to signed 8 bits, inputs to unsigned 8 bits between the smallest and
the largest value seen (MinMax, zero included), as onnxruntime's ``quantize_static`` does.
Embedding and head are stored in 8-bit blocks, and their inputs are not quantised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from pitool.checkpoint.source import Checkpoint
from pitool.convert.onnx.graph import Graph
from pitool.convert.onnx.weights import OnBytes, Part, Weights, with_optional
from pitool.convert.onnx.writer import write_onnx
from pitool.convert.techniques.base import ArtifactFiles, Need, Technique
from pitool.convert.techniques.rounding import Floats
from pitool.convert.techniques.workbench import Workbench
from pitool.planning.onnx_weights import ONNX_QUANTISATIONS, OnnxQuantisation

Range = tuple[float, float]
Ranges = Mapping[str, Range]


def make(bench: Workbench) -> ArtifactFiles:
    """Measure the ranges layer by layer, then write the graph."""
    ranges = measure(bench)
    folder = bench.folder / "static-int8"
    kind = ONNX_QUANTISATIONS["INT8"]
    write_onnx(folder, bench.checkpoint, kind, make_weights=partial(StaticWeights, ranges=ranges))
    return ArtifactFiles("onnx", folder)


def measure(bench: Workbench) -> dict[str, Range]:
    """Return the smallest and largest value of each module's input, by the module's full name."""
    ranges: dict[str, Range] = {}
    for layer in bench.walk():

        def hear(name: str, x: Floats) -> None:
            full = layer.full(name)  # noqa: B023 - called before the next layer
            low, high = ranges.get(full, (0.0, 0.0))
            ranges[full] = min(low, float(x.min())), max(high, float(x.max()))

        layer.run(hear)
    return ranges


def scale_and_zero(low: float, high: float) -> tuple[np.float32, int]:
    """Return scale and zero point of unsigned 8 bits for a range that includes zero."""
    scale = np.float32((high - low) / 255) or np.float32(1)
    return scale, round(float(np.clip(-low / scale, 0, 255)))


class StaticWeights(Weights):
    """``Weights`` whose products in the layers have 8-bit inputs with a fixed range."""

    def __init__(
        self,
        graph: Graph,
        checkpoint: Checkpoint,
        kind: OnnxQuantisation,
        on_bytes: OnBytes,
        ranges: Ranges,
    ) -> None:
        super().__init__(graph, checkpoint, kind, on_bytes)
        self._ranges = ranges

    def matmul(self, value: str, name: str, parts: Sequence[Part], *, head: bool = False) -> str:
        """Quantise the input, and multiply integers."""
        if parts[0].module not in self._ranges:
            return super().matmul(value, name, parts, head=head)
        bias = self._bias(name, parts)
        scale, zero = scale_and_zero(*self._ranges[parts[0].module])
        graph = self._graph
        step = graph.constant(f"{name}.input_scale", scale, np.float32)
        middle = graph.constant(f"{name}.input_zero", zero, np.uint8)
        levels = graph.node("QuantizeLinear", [value, step, middle], f"{name}.input")
        weight, scales = self._rows(name, parts)
        inputs = [levels, weight, step, scales, middle]
        return graph.node("MatMulIntegerToFloat", with_optional(inputs, 6, bias), name)


TECHNIQUE = Technique(
    name="static-int8",
    title="Static INT8, MinMax",
    effect="Rounds each row of a weight to 8 bits, and inputs within a range measured on a text.",
    source="onnxruntime, quantize_static; Jacob et al. 2018 (arXiv:1712.05877)",
    make=make,
    bits=8,
    kernel="onnxruntime",
    needs=frozenset({Need.CALIBRATION}),
)

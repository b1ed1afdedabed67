"""Dynamic INT8: weights are rounded per row in advance, activations per tensor at run time."""

from __future__ import annotations

from functools import partial

from pitool.convert.techniques.base import Technique
from pitool.convert.techniques.onnx_nbits import make

TECHNIQUE = Technique(
    name="dynamic-int8",
    title="Dynamic INT8",
    effect="Rounds each row of a weight to 8 bits, and each product's input at run time.",
    source="onnxruntime, DynamicQuantizeMatMul (docs/ContribOperators.md)",
    make=partial(make, "INT8_DYNAMIC"),
    bits=8,
    kernel="onnxruntime",
)

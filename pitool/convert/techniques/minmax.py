"""MinMax INT8: each row has a scale and a zero point, from its smallest to its largest value."""

from __future__ import annotations

from pitool.convert.techniques.base import Technique
from pitool.convert.techniques.rounding import Floats, IntegerMatrix, asymmetric, row_block
from pitool.convert.techniques.workbench import per_matrix


def quantise(name: str, rows: Floats) -> IntegerMatrix:
    """Return a matrix with 256 levels, and one scale and zero point per row."""
    low, high = rows.min(1, keepdims=True), rows.max(1, keepdims=True)
    return asymmetric(name, rows, low, high, 8, row_block(rows.shape[1]))


TECHNIQUE = Technique(
    name="minmax-int8",
    title="MinMax INT8",
    effect="Rounds each row to 256 levels between its smallest and largest value.",
    source="torch.ao, PerChannelMinMaxObserver with a zero point",
    make=per_matrix(quantise),
    bits=8,
    kernel="onnxruntime",
)

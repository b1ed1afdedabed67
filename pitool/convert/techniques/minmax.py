"""MinMax INT8: each row has a scale and a zero point, from its smallest to its largest value."""

from __future__ import annotations

from pitool.convert.techniques.base import Floats, Grid, Technique
from pitool.convert.techniques.grids import asymmetric, row_block
from pitool.convert.techniques.workbench import each


def quantise(name: str, rows: Floats) -> Grid:
    """Return each row in 256 levels of its own scale and zero point."""
    low, high = rows.min(1, keepdims=True), rows.max(1, keepdims=True)
    return asymmetric(name, rows, low, high, 8, row_block(rows.shape[1]))


TECHNIQUE = Technique(
    name="minmax-int8",
    title="MinMax INT8",
    effect="Rounds each row to 256 levels between its smallest and largest value.",
    source="torch.ao, PerChannelMinMaxObserver with a zero point",
    make=each(quantise),
    bits=8,
    kernel="onnxruntime",
)

"""AbsMax INT8: each row is scaled by its largest magnitude, as LLM.int8() does (vector-wise)."""

from __future__ import annotations

from pitool.convert.techniques.base import Floats, Grid, Technique
from pitool.convert.techniques.grids import largest, row_block, symmetric
from pitool.convert.techniques.workbench import each


def quantise(name: str, rows: Floats) -> Grid:
    """Return each row in levels from -127 to 127 of its own scale."""
    block = row_block(rows.shape[1])
    return symmetric(name, rows, largest(rows, block), 8, block)


TECHNIQUE = Technique(
    name="absmax-int8",
    title="AbsMax INT8",
    effect="Scales each row by its largest magnitude and rounds it to 255 levels around zero.",
    source="Dettmers et al. 2022, LLM.int8() (arXiv:2208.07339), without its outlier columns",
    make=each(quantise),
    bits=8,
    kernel="onnxruntime",
)

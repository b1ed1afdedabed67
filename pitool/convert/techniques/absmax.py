"""AbsMax INT8: each row is scaled by its largest magnitude (vector-wise, as in LLM.int8())."""

from __future__ import annotations

from pitool.convert.techniques.base import Technique
from pitool.convert.techniques.rounding import Floats, IntegerMatrix, largest, row_block, symmetric
from pitool.convert.techniques.workbench import per_matrix


def quantise(name: str, rows: Floats) -> IntegerMatrix:
    """Return a matrix with levels from -127 to 127 and one scale per row."""
    block = row_block(rows.shape[1])
    return symmetric(name, rows, largest(rows, block), 8, block)


TECHNIQUE = Technique(
    name="absmax-int8",
    title="AbsMax INT8",
    effect="Scales each row by its largest magnitude and rounds it to 255 levels around zero.",
    source="Dettmers et al. 2022, LLM.int8() (arXiv:2208.07339), without its outlier columns",
    make=per_matrix(quantise),
    bits=8,
    kernel="onnxruntime",
)

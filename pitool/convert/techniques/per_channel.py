"""Per-channel INT8: each output channel has a scale; all 256 levels are used, as in torch.ao."""

from __future__ import annotations

from pitool.convert.techniques.base import Technique
from pitool.convert.techniques.rounding import Floats, IntegerMatrix, largest, row_block, symmetric
from pitool.convert.techniques.workbench import per_matrix


def quantise(name: str, rows: Floats) -> IntegerMatrix:
    """Return a matrix with levels from -128 to 127 and one scale per row."""
    block = row_block(rows.shape[1])
    return symmetric(name, rows, largest(rows, block), 8, block, restricted=False)


TECHNIQUE = Technique(
    name="per-channel-int8",
    title="Per-channel INT8",
    effect="Rounds each output channel to 256 levels around zero, with its own scale.",
    source="torch.ao, per_channel_symmetric; Krishnamoorthi 2018 (arXiv:1806.08342)",
    make=per_matrix(quantise),
    bits=8,
    kernel="onnxruntime",
)

"""Per-channel INT8: each output channel has a scale, all 256 levels are used, as torch.ao does."""

from __future__ import annotations

from pitool.convert.techniques.base import Floats, Grid, Technique
from pitool.convert.techniques.grids import largest, row_block, symmetric
from pitool.convert.techniques.workbench import each


def quantise(name: str, rows: Floats) -> Grid:
    """Return each row in levels from -128 to 127 of its own scale."""
    block = row_block(rows.shape[1])
    return symmetric(name, rows, largest(rows, block), 8, block, restricted=False)


TECHNIQUE = Technique(
    name="per-channel-int8",
    title="Per-channel INT8",
    effect="Rounds each output channel to 256 levels around zero with a scale of its own.",
    source="torch.ao, per_channel_symmetric; Krishnamoorthi 2018 (arXiv:1806.08342)",
    make=each(quantise),
    bits=8,
    kernel="onnxruntime",
)

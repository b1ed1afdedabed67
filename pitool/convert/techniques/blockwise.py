"""Block-wise INT8: each block of a row is scaled by its largest magnitude."""

from __future__ import annotations

from functools import partial

from pitool.convert.techniques.base import Technique
from pitool.convert.techniques.rounding import Floats, IntegerMatrix, largest, symmetric
from pitool.convert.techniques.workbench import per_matrix


def quantise(name: str, rows: Floats, block: int, bits: int = 8) -> IntegerMatrix:
    """Return a matrix with one scale per block."""
    return symmetric(name, rows, largest(rows, block), bits, block)


def _row(block: int) -> Technique:
    return Technique(
        name=f"block-int8-{block}",
        title=f"Block-wise INT8, {block}",
        effect=f"Rounds to 255 levels around zero, with one scale per block of {block} weights.",
        source="Dettmers et al. 2022, 8-bit optimizers (arXiv:2110.02861)",
        make=per_matrix(partial(quantise, block=block)),
        bits=8 + 32 / block,
        kernel="onnxruntime",
    )


BLOCK_32, BLOCK_64, BLOCK_128 = _row(32), _row(64), _row(128)

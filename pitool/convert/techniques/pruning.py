"""Pruning and INT8: small weights become zero, the others are rounded in blocks.

Unstructured: the smallest weights of a matrix. Structured: the two smallest of every four in a row
(2:4). The kernel multiplies zeros like any other weight, so size and speed do not improve.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pitool.convert.techniques.base import Technique
from pitool.convert.techniques.blockwise import quantise
from pitool.convert.techniques.rounding import Floats
from pitool.convert.techniques.workbench import per_matrix

SHARE = 0.3
GROUP, KEPT = 4, 2
BLOCK = 32


def smallest(rows: Floats, share: float = SHARE) -> Floats:
    """Return rows with a share of the matrix, the smallest magnitudes, set to zero."""
    count = int(share * rows.size)
    if not count:
        return rows
    border = np.partition(np.abs(rows).ravel(), count - 1)[count - 1]
    kept: Floats = np.where(np.abs(rows) > border, rows, np.float32(0))
    return kept


def two_of_four(rows: Floats) -> Floats:
    """Return rows with the two smallest of every four weights set to zero, whole groups only."""
    whole = rows.shape[1] // GROUP * GROUP
    groups = rows[:, :whole].reshape(len(rows), -1, GROUP)
    order = np.argsort(-np.abs(groups), axis=-1, kind="stable")
    mask = np.zeros(groups.shape, bool)
    np.put_along_axis(mask, order[..., :KEPT], values=True, axis=-1)
    kept = np.where(mask, groups, np.float32(0)).reshape(len(rows), whole)
    return np.concatenate([kept, rows[:, whole:]], axis=1)


def _row(name: str, title: str, what: str, source: str, prune: Callable[..., Floats]) -> Technique:
    return Technique(
        name=name,
        title=title,
        effect=f"Sets {what} to zero and rounds the rest to 8 bits in blocks of {BLOCK}.",
        source=source,
        make=per_matrix(lambda name, rows: quantise(name, prune(rows), BLOCK)),
        bits=8 + 32 / BLOCK,
        kernel="onnxruntime",
        note="zeros are stored and multiplied like any other weight",
    )


MAGNITUDE = _row(
    "prune-int8", "Pruning + INT8", f"the smallest {SHARE:.0%} of a matrix",
    "Han et al. 2015 (arXiv:1506.02626)", smallest,
)  # fmt: skip
STRUCTURED = _row(
    "prune-2of4-int8", "2:4 pruning + INT8", "the smaller two of every four weights",
    "Mishra et al. 2021 (arXiv:2104.08378)", two_of_four,
)  # fmt: skip

"""How long a walk over the layers takes: said before it begins.

Counts what is multiplied, and measures once how fast this machine multiplies.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from math import prod

import numpy as np

from pitool.catalog.model_shape import EMBEDDING, HEAD, ModelShape
from pitool.checkpoint.config import Config
from pitool.convert.effort import Effort
from pitool.convert.layerwise import unwalkable
from pitool.convert.vocabulary_rows import SWEEPS, TOKENS

# Passes of the text through a layer, each as it is and as it is rounded: for its inputs, for those
# of each group of matrices, which end where the group begins, and for its output.
MODELS, PASSES = 2, 3.2
# Times as long as its products of matrices: a pass in float32, with attention and all else.
FORWARD = 2.5
# Seconds a column costs beside what is multiplied, and a weight: rounding, and ggml's search.
COLUMN, WEIGHT = 5e-5, 5e-8
SIDE, TRIES = 768, 5


def hindrance(effort: Effort, config: Config) -> str:
    """Say why an effort feeds no errors back; empty where it does, or was not asked to."""
    if not effort.feedback:
        return ""
    why = unwalkable(config)
    return f"--effort {effort.name} changes nothing here: {why}" if why else ""


def estimate(effort: Effort, model: ModelShape, *, ends: bool = True) -> float:
    """Return the seconds that a walk takes on this machine; ``ends``: with embedding and head."""
    matrices = [t.shape for t in model.tensors if t.name.startswith("blk.") and len(t.shape) == 2]
    tables = [t.shape for t in model.tensors if t.name in (EMBEDDING, HEAD)] if ends else []
    tokens = effort.tokens.find(model.parameters) if effort.tokens else 0
    seconds = _rounding(matrices, effort.sweeps) + _rounding(tables, min(effort.sweeps, SWEEPS))
    weights = sum(map(prod, matrices))
    work = weights * tokens * PASSES * MODELS * FORWARD
    if len(tables) == 1:  # the head is the embedding, and its inputs are computed before all
        work += weights * min(tokens, TOKENS) * FORWARD
    shared = sum(columns**2 for _, columns in matrices) / 2  # most inputs are those of two or more
    work += shared * tokens * MODELS * 2  # before scales are folded, and after that
    return work * seconds_each() + seconds


def _rounding(matrices: Sequence[tuple[int, ...]], sweeps: int) -> float:
    """Return the seconds of rounding matrices."""
    work = sum(_multiplications(rows, columns, sweeps) for rows, columns in matrices)
    besides = sum(columns * COLUMN + prod((rows, columns)) * WEIGHT for rows, columns in matrices)
    return work * seconds_each() + besides * (1 + sweeps)


def _multiplications(rows: int, columns: int, sweeps: int) -> float:
    """Return what rounding a matrix multiplies; float64 counts double.

    The factor of its inputs, the matrix that makes up for what came before, and the rounding.
    """
    corrected = 2 * (columns**3 / 3 + rows * columns**2) + rows * columns**2
    return 2 * columns**3 / 6 + corrected + rows * columns**2 * (0.5 + 2 * sweeps)


@cache
def seconds_each() -> float:
    """Return the seconds of a multiplication with an addition, in a product of matrices.

    The least of several tries, because other programs make it longer.
    """
    square = np.ones((SIDE, SIDE), np.float32)
    square @ square  # the first starts threads
    tries = []
    for _ in range(TRIES):
        begun = time.perf_counter()
        square @ square
        tries.append(time.perf_counter() - begun)
    return min(tries) / SIDE**3

"""Massive activations: what they hide without a cap, and that all else stays as it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pitool.catalog.tensor_types import TENSOR_TYPES
from pitool.convert import feedback
from pitool.convert.gguf.feedback import grid_of
from pitool.convert.gguf.losses import relative_errors
from pitool.convert.massive import MASSIVE, capped

Array = NDArray[np.float32]
KINDS = (TENSOR_TYPES["Q2_K"], TENSOR_TYPES["Q6_K"])
PLACE = 7


def drawn(rows: int, columns: int) -> Array:
    return np.random.default_rng(3).standard_normal((rows, columns)).astype(np.float32)


def test_only_what_is_massive_changes() -> None:
    squares = np.array([1.0, 2.0, 3.0, 900.0, 5e6])
    assert capped(squares).tolist() == [1.0, 2.0, 3.0, 900.0, 3.0 * MASSIVE]
    assert capped(np.zeros(4)).tolist() == [0.0] * 4
    # Where most columns have no input there is nothing to compare with.
    assert capped(np.array([0.0, 0.0, 9.0])).tolist() == [0.0, 0.0, 9.0]


def test_a_massive_column_does_not_hide_what_all_others_lose() -> None:
    """Rounded to Q2_K, a matrix loses a part that the size of one column does not change."""
    rows = drawn(32, 256)
    usual = np.ones(256, np.float32)
    massive = usual.copy()
    massive[PLACE] = 1e6
    found = [relative_errors(rows[None], each[None], KINDS) for each in (usual, massive)]
    assert found[0]["Q2_K"] > 0.05
    assert found[1]["Q2_K"] > 0.01
    assert found[1]["Q2_K"] > 5 * found[1]["Q6_K"]


def test_a_massive_column_leaves_error_feedback_to_the_others() -> None:
    """Outside of its block error feedback gains what it gains without it."""
    mixed = drawn(256, 256) * np.logspace(0, -1.5, 256, dtype=np.float32)
    plain = mixed @ mixed.T
    massive = plain.copy()
    massive[PLACE, PLACE] += 1e6 * float(np.median(np.diag(plain)))
    rows, grid = drawn(16, 256), grid_of(TENSOR_TYPES["Q4_0"], 256)
    assert grid
    others = slice(grid.block, None)

    def lost(values: Array) -> float:
        return feedback.loss(rows[:, others], values[:, others], plain[others, others])

    def fed_back(hessian: Array) -> float:
        return lost(feedback.quantise(rows, feedback.damped(hessian), grid).values)

    by_itself = lost(grid.nearest(rows, np.diag(plain).copy()))
    assert fed_back(plain) < 0.6 * by_itself
    assert fed_back(massive) < 0.75 * by_itself

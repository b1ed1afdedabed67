"""A matrix that makes up for what was lost before it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pitool.convert.propagation import Correction, Inputs, Moments

Wide = NDArray[np.float64]
ROWS, COLUMNS = 8, 16


def inputs_of(seen: Wide, meant: Wide, lost: Wide) -> Inputs:
    """Return the moments of inputs (tokens, columns), meant and seen, and of a residual's loss."""
    halves = []
    for half in (slice(0, None, 2), slice(1, None, 2)):
        hessian, drift, residual = (
            (each[half].T @ seen[half] / len(seen)).astype(np.float32)
            for each in (seen, meant - seen, lost)
        )
        halves.append(Moments(hessian, drift, residual))
    return Inputs(tuple(halves))


def drawn(tokens: int, seed: int = 0) -> tuple[np.random.Generator, Wide, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((ROWS, COLUMNS)).astype(np.float32)
    return rng, rng.standard_normal((tokens, COLUMNS)), rows


def test_it_is_the_least_squares_of_the_text() -> None:
    """Inputs in another basis, and a residual that lost what they tell."""
    rng, meant, rows = drawn(400)
    seen = meant @ (np.eye(COLUMNS) + 0.1 * rng.standard_normal((COLUMNS, COLUMNS)))
    lost = seen @ rng.standard_normal((COLUMNS, ROWS)) * 0.1
    wanted = np.linalg.lstsq(seen, meant @ rows.T + lost, rcond=None)[0].T
    found = Correction(inputs_of(seen, meant, lost), 1e-9).corrected(rows)
    assert np.abs(wanted - rows).max() > 0.1
    assert np.allclose(found, wanted, atol=1e-3)


def test_a_penalty_keeps_it_where_it_is() -> None:
    _, meant, rows = drawn(400)
    found = Correction(inputs_of(1.2 * meant, meant, np.zeros((400, ROWS))), 1e6).corrected(rows)
    assert np.abs(found - rows).max() < 1e-3


@pytest.mark.parametrize("seed", range(20))
def test_chance_changes_nothing_much(seed: int) -> None:
    """What one half of a short text lacks by chance does not help the other half."""
    rng, seen, rows = drawn(40, seed)
    lost = rng.standard_normal((40, ROWS))
    inputs = inputs_of(seen, seen, lost)
    by_chance = np.linalg.lstsq(seen, lost, rcond=None)[0].T
    found = Correction(inputs, 1e-9).corrected(rows)
    assert np.linalg.norm(found - rows) < 0.35 * np.linalg.norm(by_chance)


def test_one_window_changes_nothing() -> None:
    rng, seen, rows = drawn(40)
    both = inputs_of(seen, 2 * seen, rng.standard_normal((40, ROWS)))
    assert np.array_equal(Correction(Inputs(both.halves[:1])).corrected(rows), rows)

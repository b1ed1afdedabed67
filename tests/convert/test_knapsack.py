"""The least loss within several budgets: against every combination tried."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pitool.convert.gguf import knapsack

amounts = st.integers(0, 40)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[list[int]], list[list[list[int]]], list[int]]:
    """Draw losses, costs and budgets of a few items with a few options each."""
    budgets = draw(st.integers(1, 3))
    options = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    losses = [draw(st.lists(amounts, min_size=n, max_size=n)) for n in options]
    cost = st.lists(amounts, min_size=budgets, max_size=budgets)
    costs = [draw(st.lists(cost, min_size=n, max_size=n)) for n in options]
    return losses, costs, draw(st.lists(st.integers(0, 120), min_size=budgets, max_size=budgets))


def best_of_all(
    losses: list[list[int]], costs: list[list[list[int]]], budgets: list[int]
) -> int | None:
    """Return the least loss of every combination that keeps the budgets."""
    kept = [
        sum(losses[i][j] for i, j in enumerate(taken))
        for taken in itertools.product(*(range(len(row)) for row in losses))
        if (np.sum([costs[i][j] for i, j in enumerate(taken)], axis=0) <= budgets).all()
    ]
    return min(kept, default=None)


@given(cases())
def test_it_is_the_best_of_all(
    case: tuple[list[list[int]], list[list[list[int]]], list[int]],
) -> None:
    losses, costs, budgets = case
    found, best = knapsack.choose(losses, costs, budgets), best_of_all(*case)
    if best is None:
        assert found is None
        return
    assert found is not None
    assert found.optimal
    assert found.loss == pytest.approx(best)
    assert found.loss == pytest.approx(sum(losses[i][j] for i, j in enumerate(found.options)))
    used = np.sum([costs[i][j] for i, j in enumerate(found.options)], axis=0)
    assert (used <= np.array(budgets) * (1 + 1e-9)).all()
    assert found.bound <= best + 1e-9


def test_no_items_lose_nothing() -> None:
    found = knapsack.choose([], [], [5])
    assert found is not None
    assert (found.options, found.loss) == ((), 0.0)


def test_a_budget_below_zero_is_kept_by_nothing() -> None:
    assert knapsack.choose([[1.0]], [[[0.0]]], [-1.0]) is None


def test_a_model_of_many_layers_is_within_a_hundredth_of_the_bound() -> None:
    """Losses fall by four for each bit, as rounding's do; sizes and times are nearly in step."""
    rng = np.random.default_rng(1)
    bits = np.array([2.6, 3.4, 4.25, 4.5, 5.5, 6.6, 8.5])
    sizes = rng.choice([1, 1, 3, 9], 200)
    weights = rng.lognormal(0, 1, 200)
    losses = (weights[:, None] * 4.0**-bits).tolist()
    costs = [
        [[size * b, size * max(b, 4.0 if b < 4 else b)] for b in bits.tolist()] for size in sizes
    ]
    budget = float(sizes.sum() * 4.6)
    found = knapsack.choose(losses, costs, [budget, budget * 1.01])
    assert found is not None
    assert found.bound <= found.loss <= 1.01 * found.bound

"""One option for each item, so that as little as possible is lost within several budgets.

This is the multiple-choice knapsack with several constraints. Prices on the budgets (Lagrange
multipliers, raised by Polyak's subgradient steps) give a bound that no choice can beat; choices
that keep the budgets are repaired from what the prices take. Options that the bound rules out are
dropped, and a depth-first search over the rest finds the optimum, or the best within ``NODES``.
Pisinger 1995, "A minimal algorithm for the multiple-choice knapsack problem", does so for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STEPS = 400
REPAIR_EVERY = 10
# Nodes of the search, about a second.
NODES = 20_000
# Of floating point, on budgets that are scaled to 1 and on losses relative to their sum.
SLACK = 1e-12
# The share of a budget that stands for all that is more than it.
_NEVER = 2.0


@dataclass(frozen=True, slots=True)
class Choice:
    """The option taken of each item; no choice within the budgets loses less than ``bound``.

    ``optimal``: nothing that was not tried can lose less than this choice does.
    """

    options: tuple[int, ...]
    loss: float
    bound: float
    optimal: bool


def choose(
    losses: Sequence[Sequence[float]],
    costs: Sequence[Sequence[Sequence[float]]],
    budgets: Sequence[float],
) -> Choice | None:
    """Return the options that lose least, None where none is found that keeps the budgets.

    ``losses[i][j]`` of option j of item i, none negative; ``costs[i][j][k]``: what it takes of
    budget k, of which there is at least one. Items may have different numbers of options.
    """
    if any(budget < 0 for budget in budgets):
        return None
    if not losses:
        return Choice((), 0.0, 0.0, optimal=True)
    return _Knapsack.of(losses, costs, budgets).solve()


@dataclass(slots=True)
class _Knapsack:
    """``losses`` (items, options), infinite where there is none; ``costs`` (items, options,
    budgets), as shares of the budgets; the best choice that was found so far.
    """

    losses: NDArray[np.float64]
    costs: NDArray[np.float64]
    best: NDArray[np.intp] | None = None
    least: float = float("inf")

    @classmethod
    def of(
        cls,
        losses: Sequence[Sequence[float]],
        costs: Sequence[Sequence[Sequence[float]]],
        budgets: Sequence[float],
    ) -> _Knapsack:
        most = max(map(len, losses))
        table = np.full((len(losses), most), np.inf)
        shares = np.full((len(losses), most, len(budgets)), _NEVER)
        room = np.asarray(budgets, np.float64)
        for i, (row, taken) in enumerate(zip(losses, costs, strict=True)):
            table[i, : len(row)] = row
            amounts = np.asarray(taken, np.float64).reshape(len(row), -1)
            share = np.where(amounts > 0, _NEVER, 0.0)
            np.divide(amounts, room, out=share, where=amounts < _NEVER * room)
            shares[i, : len(row)] = share
        return cls(table, shares)

    def solve(self) -> Choice | None:
        bound, prices = self._price()
        # Prices that ask more than everything could lose prove that nothing keeps the budgets.
        done = bound <= self._worst * (1 + SLACK) and self._search(bound, prices)
        if self.best is None:
            return None
        return Choice(tuple(map(int, self.best)), self.least, min(bound, self.least), done)

    def _price(self) -> tuple[float, NDArray[np.float64]]:
        """Return the best bound and its prices; on the way choices are repaired and kept."""
        prices = np.zeros(self.costs.shape[-1])
        bound, at, worst = -np.inf, prices, self._worst
        for step in range(STEPS):
            reduced = self.losses + self.costs @ prices
            taken = reduced.argmin(-1)
            value = float(reduced.min(-1).sum() - prices.sum())
            if value > bound:
                bound, at = value, prices
            used = self._used(taken)
            if step % REPAIR_EVERY == 0 or (used <= 1 + SLACK).all():
                self._keep(self._repaired(taken))
            over = used - 1
            over[(over < 0) & (prices <= 0)] = 0  # a price is never negative
            length = float(over @ over)
            gap = min(self.least, worst) - value
            if length < SLACK or gap <= SLACK * max(worst, SLACK):
                break
            prices = np.maximum(prices + over * gap / length * 0.95 ** (step // 20), 0)
        return bound, at

    @property
    def _worst(self) -> float:
        """What the worst choice loses."""
        return float(np.where(np.isinf(self.losses), 0, self.losses).max(-1).sum())

    def _used(self, taken: NDArray[np.intp]) -> NDArray[np.float64]:
        total: NDArray[np.float64] = self.costs[np.arange(len(taken)), taken].sum(0)
        return total

    def _keep(self, taken: NDArray[np.intp] | None) -> None:
        if taken is None:
            return
        loss = float(self.losses[np.arange(len(taken)), taken].sum())
        if loss < self.least:
            self.best, self.least = taken.copy(), loss

    def _repaired(self, taken: NDArray[np.intp]) -> NDArray[np.intp] | None:
        """Return a choice within the budgets that is near another, None where none is found."""
        taken, rows = taken.copy(), np.arange(len(taken))
        while True:
            used = self._used(taken)
            after = used - self.costs[rows, taken][:, None] + self.costs
            gain = self.losses[rows, taken][:, None] - self.losses
            over = np.maximum(used - 1 - SLACK, 0).sum()
            if over > 0:
                relief = over - np.maximum(after - 1 - SLACK, 0).sum(-1)
                score = np.where(relief > SLACK, relief / np.maximum(-gain, SLACK), -np.inf)
            else:
                fits = (after <= 1 + SLACK).all(-1)
                score = np.where(fits & (gain > 0), gain, -np.inf)
            i, j = np.unravel_index(int(score.argmax()), score.shape)
            if score[i, j] == -np.inf:
                return None if over > 0 else taken
            taken[i] = j

    def _search(self, bound: float, prices: NDArray[np.float64]) -> bool:
        """Look through what the bound leaves; tell whether that was all."""
        reduced = self.losses + self.costs @ prices
        extra = reduced - reduced.min(-1, keepdims=True)
        room = max(self.least - bound, 0.0) + SLACK * max(abs(bound), SLACK)
        left = [np.flatnonzero((row <= room) & np.isfinite(row)) for row in extra]
        order = sorted(range(len(left)), key=lambda i: (-len(left[i]), i))
        items = [
            [
                (float(extra[i, j]), float(self.losses[i, j]), self.costs[i, j], int(j))
                for j in sorted(left[i], key=lambda j, i=i: extra[i, j])  # type: ignore[misc]
            ]
            for i in order
        ]
        search = _Search(items, order, bound, self.least, self.best)
        done = search.run()
        self.best, self.least = search.best, search.least
        return done


_Option = tuple[float, float, NDArray[np.float64], int]
"""What it costs more than the cheapest under the prices, its loss, its costs, its number."""


class _Search:
    """Depth first, the cheapest options under the prices first."""

    def __init__(
        self,
        items: Sequence[Sequence[_Option]],
        order: Sequence[int],
        bound: float,
        least: float,
        best: NDArray[np.intp] | None,
    ) -> None:
        self._items, self._order, self._bound = items, order, bound
        self.least, self.best = least, best
        smallest = [np.min([o[2] for o in item], axis=0) for item in items]
        # What the items from each on take at least.
        self._rest = [*np.cumsum(smallest[::-1], axis=0)[::-1], np.zeros(1)]

    def run(self) -> bool:
        """Search; tell whether everything was looked at."""
        nodes = 0
        stack: list[tuple[int, float, float, NDArray[np.float64], tuple[int, ...]]] = [
            (0, 0.0, 0.0, np.zeros(1), ())
        ]
        while stack:
            depth, extra, loss, used, taken = stack.pop()
            if self._bound + extra >= self.least:
                continue
            if depth == len(self._items):
                self._keep(loss, taken)
                continue
            nodes += 1
            if nodes > NODES:
                return False
            rest = self._rest[depth + 1]
            for more, lost, cost, number in reversed(self._items[depth]):
                after = used + cost
                if (after + rest <= 1 + SLACK).all():
                    stack.append((depth + 1, extra + more, loss + lost, after, (*taken, number)))
        return True

    def _keep(self, loss: float, taken: tuple[int, ...]) -> None:
        if loss < self.least:
            self.least = loss
            self.best = np.empty(len(taken), np.intp)
            self.best[list(self._order)] = taken

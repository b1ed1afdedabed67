"""What a pass over the weights costs by its number of tokens, and how many guesses pay.

Decoding waits for the memory: a pass over four tokens costs less than four passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pitool.engine.base import Settings

SIZES = (2, 3, 4, 8, 12, 16)
"""Tokens of the passes that are tried: kernels work by rows of four, so that six cost as eight."""
TYPICAL_COSTS: Mapping[int, float] = {1: 1.0, 2: 1.7, 3: 2.1, 4: 2.4, 8: 3.7, 12: 4.9, 16: 6.2}
"""What a pass costs until one was measured: small models on x86, where arithmetic weighs most."""
LEAST_GAIN = 1.08
"""How much faster guesses have to look than none, by figures that are estimates themselves."""


def rows(answers: int, guesses: int) -> int:
    """Return the most tokens of a pass: one of each answer, or of one alone with its guesses."""
    return max(answers, 1 + guesses)


def output_rows(settings: Settings) -> int:
    """Return the most rows of logits of one call."""
    return max(settings.outputs, rows(settings.sequences, settings.guesses))


class Costs:
    """What a pass costs by its number of tokens, as a multiple of a pass of one.

    Begins with a curve that was measured before or a typical one, and follows the passes that are
    made. Sizes between two known ones lie on the line between them.

    Times of passes are noisy, and a size that looks too dear is not tried again. So a few passes
    of a size weigh no more than what was expected of it, a pass counts by ``_MOST`` times of what
    it was thought to take at most, and the first one of a size, for which llama.cpp builds a graph
    and touches new memory, not at all.
    """

    _SHARE = 0.1  # of the time of a pass of one token that the newest one has
    _KEPT = 0.95  # of the weight of older passes of a size, when one more is made
    _OWN, _ALL = 3.0, 2.0  # passes that the expectation of a size weighs, and that of all
    _MOST = 1.5

    def __init__(self, curve: Iterable[tuple[int, float]] = ()) -> None:
        self._curve = dict(curve) or dict(TYPICAL_COSTS)
        self._curve.setdefault(1, 1.0)
        self._one, self._ones = 0.0, 0
        # Of each size, passes that were made and how much dearer than expected, both weighted.
        self._passes: dict[int, tuple[float, float]] = {}

    def of(self, tokens: int) -> float:
        """Return the cost of a pass of so many tokens."""
        return max(1.0, self._expected(tokens) * self._factor(tokens)) if tokens > 1 else 1.0

    def note(self, tokens: int, seconds: float) -> None:
        """Take in the time of a pass."""
        if tokens == 1:
            self._ones += 1
            new = self._within(seconds, self._one)
            self._one += (new - self._one) * max(self._SHARE, 1 / self._ones)
        elif self._one and tokens in SIZES:
            if tokens not in self._passes:
                self._passes[tokens] = 0.0, 0.0
                return
            new = self._within(seconds / self._one / self._expected(tokens), self._factor(tokens))
            made, dearer = self._passes[tokens]
            self._passes[tokens] = made * self._KEPT + 1, dearer * self._KEPT + new

    @property
    def one(self) -> float:
        """Seconds of a pass of one token, 0 before there was one."""
        return self._one

    def _within(self, new: float, old: float) -> float:
        return min(max(new, old / self._MOST), old * self._MOST) if old else new

    def _factor(self, tokens: int) -> float:
        """Return how much dearer than expected a pass is, by those of its size and of all."""
        passes = self._passes.values()
        of_all = self._ALL + sum(dearer for _, dearer in passes)
        of_all /= self._ALL + sum(made for made, _ in passes)
        made, dearer = self._passes.get(tokens, (0.0, 0.0))
        return (self._OWN * of_all + dearer) / (self._OWN + made)

    def _expected(self, tokens: int) -> float:
        known = sorted(self._curve)
        above = next((each for each in known if each >= tokens), None)
        if above is None:  # beyond the curve as its last part
            low, high = ([1, 2] if len(known) < 2 else known)[-2:]
        elif above == tokens:
            return self._curve[tokens]
        else:
            low, high = known[known.index(above) - 1], above
        left, right = self._curve[low], self._curve.get(high, self._curve[low])
        return left + (right - left) * (tokens - low) / (high - low)


@dataclass(frozen=True, slots=True)
class Offer:
    """What can be guessed of an answer: ``odds`` that each of the next tokens is reached and holds.

    They never rise from one to the next. ``make`` returns so many tokens or fewer; each costs
    ``price`` passes of one token to make.
    """

    odds: Sequence[float]
    make: Callable[[int], list[int]]
    price: float = 0.0

    def value(self, costs: Costs) -> float:
        """Return tokens per pass of one token at the best number of guesses, 1 for none."""
        return self._best(costs)[1]

    def count(self, costs: Costs) -> int:
        """Return how many guesses make most tokens for their time.

        None where that is not clearly more than without.
        """
        return self._best(costs)[0]

    def _best(self, costs: Costs) -> tuple[int, float]:
        plain = 1 / costs.of(1)
        best, rate = 0, plain * LEAST_GAIN
        tokens = 1.0
        for count, odds in enumerate(self.odds, 1):
            tokens += odds
            if 1 + count in SIZES:
                found = tokens / (costs.of(1 + count) + count * self.price)
                if found > rate:
                    best, rate = count, found
        return best, rate if best else plain

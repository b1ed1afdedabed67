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
    """

    _SHARE = 0.2

    def __init__(self, curve: Iterable[tuple[int, float]] = ()) -> None:
        self._curve = dict(curve) or dict(TYPICAL_COSTS)
        self._curve.setdefault(1, 1.0)
        self._measured: dict[int, float] = {}
        self._one = 0.0

    def of(self, tokens: int) -> float:
        """Return the cost of a pass of so many tokens."""
        if tokens in self._measured:
            return self._measured[tokens]
        return max(1.0, self._expected(tokens) * self._shift)

    def note(self, tokens: int, seconds: float) -> None:
        """Take in the time of a pass; one that took ten times as long was disturbed."""
        if tokens == 1:
            if not self._one or seconds < 10 * self._one:
                self._one += (seconds - self._one) * (self._SHARE if self._one else 1.0)
        elif self._one and tokens in SIZES:
            cost = seconds / self._one
            if cost < 10 * self.of(tokens):
                old = self._measured.get(tokens, cost)
                self._measured[tokens] = old + (cost - old) * self._SHARE

    @property
    def one(self) -> float:
        """Seconds of a pass of one token, 0 before there was one."""
        return self._one

    @property
    def _shift(self) -> float:
        """How much dearer measured passes were than the curve said, for those not measured yet."""
        found = [cost / self._expected(tokens) for tokens, cost in self._measured.items()]
        return sum(found) / len(found) if found else 1.0

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

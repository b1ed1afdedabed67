"""Several tokens of an answer in one pass over the weights: guessed first, then checked.

A runtime computes guessed tokens as if they had been chosen, chooses from each row of logits as
ever, and keeps the tokens up to the first that differs from its guess. So each draw is the one that
plain decode would have made, and no sampler ever sees a guess: answers have the distribution of
plain decode, and with a seed they are the same. (Leviathan et al. 2023, for guesses that are a
token with probability 1.)

Kernels add in another order where there are several rows: where two tokens are as likely as each
other up to that, a greedy answer computes the token once more, without guesses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pitool.engine.guesses import Draft, Drafts, Guesser, HitRates
from pitool.engine.pass_costs import NO_OFFER, Costs, allot

MOST_GUESSES = 15
"""Tokens that are guessed at once: with the token before them a pass of 16, four rows of kernels'
tiles. What lies behind them is rarely reached, and each keeps a row of logits."""
DOUBT = 0.1
"""Logits: how much nearer two tokens have to be than kernels for one row and for several differ."""


class Speculation:
    """What an engine knows of guesses: the most of an answer at once, and what was seen of them."""

    def __init__(self, most: int, curve: Iterable[tuple[int, float]] = ()) -> None:
        self._most = most
        self.costs, self._rates = Costs(curve), HitRates()
        self._drafts: Drafts | None = None

    def use(self, draft: Draft, vocabulary: int) -> None:
        """Guess with a small model too, of whose tokens the first ``vocabulary`` are ours."""
        self._drafts = Drafts(draft, vocabulary)

    def begin(self, ids: Iterable[int], expected: Sequence[int] = (), sequence: int = 0) -> Guesser:
        """Return what guesses the answer to a prompt; see ``Guesser``."""
        return Guesser(ids, self._rates, self._drafts, sequence, expected)

    def guess(self, writing: Sequence[tuple[Guesser | None, int]]) -> list[list[int]]:
        """Return guesses for the answers that go into the next pass, with the most of each."""
        offers = [
            guesser.offer(min(most, self._most), self.costs) if guesser else NO_OFFER
            for guesser, most in writing
        ]
        counts = allot(offers, self.costs)
        return [offer.make(n) if n else [] for offer, n in zip(offers, counts, strict=True)]

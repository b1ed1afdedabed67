"""Several tokens of an answer in one pass over the weights: guessed first, then checked.

A runtime computes guessed tokens as if they had been chosen, chooses from each row of logits as
ever, and keeps the tokens up to the first that differs from its guess. So each draw is the one that
plain decode would have made, and no sampler ever sees a guess: answers have the distribution of
plain decode, and with a seed they are the same up to rounding. (Leviathan et al. 2023, for guesses
that are a token with probability 1.)

Kernels may add in another order where there are several rows, and activations that are rounded to
8 bits make a large difference of a small one. Greedy answers are to be those of plain decode: so it
is tried once how far logits differ. Not at all: nothing is to be done. A little: where two tokens
are as likely as each other up to that, the token is computed once more, without guesses. Else
greedy answers are not guessed, and draws are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pitool.engine.speculation.guesses import Draft, Drafts, Guesser, HitRates
from pitool.engine.speculation.pass_costs import Costs

MOST_GUESSES = 15
"""Tokens that are guessed at once: with the token before them a pass of 16, four rows of kernels'
tiles. What lies behind them is rarely reached, and each keeps a row of logits."""
TRIED = 8
"""Rows that are computed one by one and at once, to see whether they differ."""
MARGIN = 50.0
"""Times the largest difference that was seen: so much nearer may two tokens be before it counts."""
MOST_DOUBT = 0.1
"""Logits: where the margin would be more, too many tokens would be computed twice."""
SHALLOW = 256
"""Tokens of the KV cache up to which llama.cpp's flash attention computes one row as it does
several; with more of them it divides the cells of one row among the threads."""


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

    def guess(self, guesser: Guesser, most: int) -> list[int]:
        """Return guesses for the next pass of an answer, at most so many."""
        offer = guesser.offer(min(most, self._most), self.costs)
        count = offer.count(self.costs)
        return offer.make(count) if count else []

"""Guesses at what comes next in an answer, and how often such guesses hold.

From n-grams: where the last tokens of a text stood in it before, it may go on as it did there
(Saxena 2023, prompt lookup). From a draft model: as a smaller one with the same vocabulary would.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Protocol

from pitool.engine.speculation.pass_costs import Costs, Offer

SHORTEST, LONGEST = 2, 24
"""Tokens of a match: one says nothing, and of more than so many the next ones are as sure."""
LOOKS = 16
"""Earlier places of a pair of tokens that are compared."""


class Ngrams:
    """The ``tokens`` of a prompt and its answer, in which the last ones are looked for."""

    def __init__(self, ids: Iterable[int]) -> None:
        self.tokens: list[int] = []
        self._places: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        self._found = 0, 0
        self.extend(ids)

    def extend(self, ids: Iterable[int]) -> None:
        """Append tokens."""
        tokens = self.tokens
        for token in ids:
            tokens.append(token)
            if len(tokens) >= SHORTEST:
                self._places[tokens[-2], token].append(len(tokens))

    def find(self) -> tuple[int, int]:
        """Return where the text went on after the longest match of its end, and the match's length.

        Of matches of one length the one that was found before and goes on, then the latest; length
        0 where there is none.
        """
        if len(self.tokens) < SHORTEST:
            return 0, 0
        best, length = self._followed()
        places = self._places[self.tokens[-2], self.tokens[-1]]
        for place in reversed(places[-1 - LOOKS : -1]):
            if (found := self._match(place)) > length:
                best, length = place, found
            if length == LONGEST:
                break
        self._found = best, len(self.tokens)
        return best, length

    def _followed(self) -> tuple[int, int]:
        """Return where the match that was found last stands now, if it still is one.

        A text that is repeated may have its last two tokens in more places than are compared.
        """
        before, then = self._found
        place = before + len(self.tokens) - then
        ends = self.tokens[place - SHORTEST : place] == self.tokens[-SHORTEST:]
        return (place, self._match(place)) if before and ends else (0, 0)

    def _match(self, place: int) -> int:
        """Return how many tokens before ``place`` are as the last ones."""
        tokens, length = self.tokens, SHORTEST
        back = len(tokens) - place
        most = min(place, LONGEST)
        while length < most and tokens[place - length - 1] == tokens[place - length - 1 + back]:
            length += 1
        return length

    def after(self, place: int, count: int) -> list[int]:
        """Return ``count`` tokens from a place on; a text that repeats itself is carried on."""
        period = len(self.tokens) - place
        return [self.tokens[place + at % period] for at in range(count)]


class HitRates:
    """How often a guess was the next token, by the length of the match that it came from.

    Begins with typical rates and follows what is seen; old guesses count less and less.
    """

    _KEPT, _WEIGHT = 0.95, 6.0
    # Least length of a match, and how often the next token was as after it.
    _TYPICAL: tuple[tuple[int, float], ...] = (
        (2, 0.3), (3, 0.45), (4, 0.6), (6, 0.7), (9, 0.8), (16, 0.9), (LONGEST, 0.96),
    )  # fmt: skip

    def __init__(self) -> None:
        self._bucket = [
            max(i for i, (least, _) in enumerate(self._TYPICAL) if least <= max(length, SHORTEST))
            for length in range(LONGEST + 1)
        ]
        self._hits = [rate * self._WEIGHT for _, rate in self._TYPICAL]
        self._tries = [self._WEIGHT for _ in self._TYPICAL]

    def of(self, length: int) -> float:
        """Return the estimated probability that the guess after a match holds."""
        bucket = self._bucket[min(length, LONGEST)]
        return self._hits[bucket] / self._tries[bucket]

    def note(self, length: int, *, held: bool) -> None:
        """Take in what came of a guess."""
        bucket = self._bucket[min(length, LONGEST)]
        rate, weight = self._TYPICAL[bucket][1], self._WEIGHT * (1 - self._KEPT)
        self._hits[bucket] = self._hits[bucket] * self._KEPT + held + rate * weight
        self._tries[bucket] = self._tries[bucket] * self._KEPT + 1 + weight


class Draft(Protocol):
    """A small model with the same vocabulary."""

    def guess(self, ids: Sequence[int], count: int, sequence: int) -> list[int]:
        """Return the ``count`` tokens that it would go on with after ``ids``.

        ``sequence``: of several answers that are written at once, which one this is.
        """


class Drafts:
    """The draft model of an engine: how often its guesses hold, and what they take.

    Guesses take time to make, so that it is only known of those that were made whether they hold:
    with each token that comes without them the rate goes back a little to what is typical.
    """

    _TYPICAL, _BACK = 0.7, 0.01

    def __init__(self, model: Draft, vocabulary: int) -> None:
        self._model, self._vocabulary = model, vocabulary
        self.rate, self.seconds = self._TYPICAL, 0.0

    def guess(self, ids: Sequence[int], count: int, sequence: int) -> list[int]:
        """Return guesses, up to the first that is none of the model's ``vocabulary`` tokens."""
        start = time.perf_counter()
        found = self._model.guess(ids, count, sequence)
        took = (time.perf_counter() - start) / count
        self.seconds = min(took, 0.8 * self.seconds + 0.2 * took) if self.seconds else took
        return list(takewhile(lambda token: token < self._vocabulary, found))

    def note(self, *, held: bool) -> None:
        """Take in what came of a guess."""
        self.rate += 0.05 * (held - self.rate)

    def rest(self) -> None:
        """Take in that a token came without a guess."""
        self.rate += self._BACK * (self._TYPICAL - self.rate)


class Guesser:
    """Guesses of one answer to a prompt of ``ids``, from what was said before in either.

    ``rates`` are those of the engine: what held in one answer is likely to in the next. Where
    ``drafts`` promise more, a small model goes on with the text, in its ``sequence``. ``expected``:
    tokens of which the answer may repeat parts, too.
    """

    def __init__(
        self,
        ids: Iterable[int],
        rates: HitRates,
        drafts: Drafts | None = None,
        sequence: int = 0,
        expected: Sequence[int] = (),
    ) -> None:
        self._ngrams, self._rates = Ngrams([*expected, *ids]), rates
        self._drafts, self._sequence, self._before = drafts, sequence, len(expected)
        self._drafted: list[int] = []
        self._found: tuple[int, int] | None = None

    def chosen(self, token: int) -> None:
        """Go on with the token that the model chose, whether it was guessed or not."""
        if self._found is not None:  # by an offer: an answer beside others makes none
            place, length = self._found
            if length:
                self._rates.note(length, held=self._ngrams.after(place, 1)[0] == token)
        if self._drafts is not None:
            self._look_at_draft(token, self._drafts)
        self._ngrams.extend((token,))
        self._found = None

    def _look_at_draft(self, token: int, drafts: Drafts) -> None:
        if not self._drafted:
            drafts.rest()
            return
        held = self._drafted.pop(0) == token
        drafts.note(held=held)
        if not held:
            self._drafted.clear()

    def offer(self, most: int, costs: Costs) -> Offer:
        """Return what can be guessed now, at most so many tokens: by what makes most of them."""
        repeated = self._repeated(most)
        if self._drafts is None or not costs.one:
            return repeated
        drafted = self._draft(most, costs.one, self._drafts)
        return max(repeated, drafted, key=lambda offer: offer.value(costs))

    def _draft(self, most: int, one: float, drafts: Drafts) -> Offer:
        def make(count: int) -> list[int]:
            text = self._ngrams.tokens[self._before :]
            self._drafted = drafts.guess(text, count, self._sequence)
            return list(self._drafted)

        odds = [drafts.rate ** (at + 1) for at in range(most)]
        return Offer(odds, make, drafts.seconds / one)

    def _repeated(self, most: int) -> Offer:
        """A match grows by each token that holds, so that the next one is likelier."""
        place, length = self._found = self._ngrams.find()
        odds, reached = [], 1.0
        for at in range(most if length else 0):
            reached *= self._rates.of(length + at)
            odds.append(reached)
        return Offer(odds, lambda count: self._ngrams.after(place, count))

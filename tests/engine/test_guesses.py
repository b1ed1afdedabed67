"""Guesses from n-grams against a search by hand, what passes cost, and how many guesses pay."""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pitool.engine.speculation.guesses import LONGEST, LOOKS, Drafts, Guesser, HitRates, Ngrams
from pitool.engine.speculation.pass_costs import (
    LEAST_GAIN,
    SIZES,
    TYPICAL_COSTS,
    Costs,
    Offer,
    rows,
)
from pitool.engine.speculation.policy import Speculation

FREE = [(size, 1.0) for size in (1, *SIZES)]
LINEAR = [(size, float(size)) for size in (1, *SIZES)]


def longest_match(tokens: Sequence[int]) -> int:
    """Return the length of the longest end of a text that stood in it before, up to LONGEST."""
    best = 0
    for length in range(2, min(LONGEST, len(tokens) - 1) + 1):
        end = list(tokens[-length:])
        if any(list(tokens[at : at + length]) == end for at in range(len(tokens) - length)):
            best = length
    return best


@given(st.lists(st.integers(0, 3), max_size=LOOKS))
def test_the_longest_match_is_found(tokens: list[int]) -> None:
    """With so few tokens every earlier place of a pair is compared."""
    place, length = Ngrams(tokens).find()
    assert length == longest_match(tokens)
    if length:
        assert tokens[place - length : place] == tokens[-length:]
        assert place < len(tokens)


def test_of_equal_matches_the_latest_is_taken() -> None:
    ngrams = Ngrams([1, 2, 7, 1, 2, 8, 1, 2])
    place, length = ngrams.find()
    assert (length, ngrams.after(place, 3)) == (2, [8, 1, 2])


def test_a_match_is_followed_past_more_places_than_are_compared() -> None:
    """The text repeats from its beginning, and its last pairs stand in many later places."""
    lines = [token for number in range(50) for token in (1, 2, 1000 + number)]
    ngrams = Ngrams(lines)
    ngrams.extend(lines[:3])  # of which the third stood in one place only
    for at, token in enumerate(lines[3:60], 3):
        place, length = ngrams.find()
        assert ngrams.after(place, 1) == [token]
        assert length == min(at, LONGEST)
        ngrams.extend([token])


def test_what_repeats_itself_is_carried_on() -> None:
    ngrams = Ngrams([9, 1, 2, 3, 1, 2, 3])
    assert ngrams.after(ngrams.find()[0], 7) == [1, 2, 3, 1, 2, 3, 1]


def test_rates_follow_what_is_seen_and_forget_it() -> None:
    rates = HitRates()
    typical = rates.of(3)
    for _ in range(200):
        rates.note(3, held=False)
    assert rates.of(3) < typical / 2
    assert rates.of(20) > 0.8  # another length of match is another matter
    for _ in range(200):
        rates.note(3, held=True)
    assert rates.of(3) > 0.85
    assert all(0 <= rates.of(n) <= 1 for n in range(LONGEST + 9))


def test_a_match_that_never_held_is_not_offered_again() -> None:
    speculation = Speculation(15, FREE)
    told = []
    guesser = speculation.begin([])
    for token in itertools.islice(itertools.cycle([5, 6, 7, 5, 6, 8, 5, 6, 9]), 300):
        told.append(guesser.offer(4, speculation.costs).odds[:1])
        guesser.chosen(token)
    assert told[-1] == [] or told[-1][0] > 0.9  # by then it repeats as a whole


def test_costs_lie_between_what_is_known() -> None:
    costs = Costs([(1, 1.0), (4, 2.2), (8, 3.0)])
    assert [costs.of(n) for n in (1, 2, 4, 6, 8)] == pytest.approx([1.0, 1.4, 2.2, 2.6, 3.0])
    assert costs.of(16) == pytest.approx(4.6)  # goes on as from 4 to 8
    assert Costs().of(4) == TYPICAL_COSTS[4]


def test_costs_follow_the_passes_that_are_made() -> None:
    costs = Costs()
    for _ in range(30):
        costs.note(1, 0.1)
        costs.note(4, 0.12)
    assert costs.of(4) == pytest.approx(1.2, rel=0.03)
    # What was not measured is nearly as much cheaper than was expected.
    assert costs.of(8) == pytest.approx(TYPICAL_COSTS[8] * 1.2 / TYPICAL_COSTS[4], rel=0.13)
    before = costs.of(4)
    costs.note(4, 60.0)  # the machine slept
    assert costs.of(4) == pytest.approx(before, rel=0.04)


def test_the_first_pass_of_a_size_says_nothing() -> None:
    costs = Costs(LINEAR)
    costs.note(1, 0.1)
    costs.note(4, 0.9)
    assert costs.of(4) == dict(LINEAR)[4]


def test_passes_with_noise_leave_the_order_of_the_sizes() -> None:
    true = {1: 1.0, 2: 1.45, 3: 1.8, 4: 1.85, 8: 3.0, 12: 4.25, 16: 5.35}
    draw = random.Random(0)
    errors = []
    for _ in range(40):
        costs = Costs()
        for _ in range(60):
            size = draw.choice([1, 1, 1, 2, 4, 4, 8])
            slow = 2 if draw.random() < 0.03 else 1
            costs.note(size, 0.01 * true[size] * slow * draw.lognormvariate(0, 0.2))
        errors += [abs(costs.of(size) / true[size] - 1) for size in (2, 4, 8)]
    assert statistics.median(errors) < 0.1
    assert max(errors) < 0.3


def made(count: int) -> list[int]:
    return list(range(count))


falling = st.lists(st.floats(0, 1), max_size=15).map(lambda p: sorted(p, reverse=True))


@given(falling)
def test_the_best_number_of_guesses_is_found(odds: list[float]) -> None:
    costs = Costs([(1, 1.0), (2, 1.3), (3, 1.5), (4, 1.6), (8, 2.1), (12, 2.9), (16, 3.5)])

    def rate(count: int) -> float:
        return (1 + sum(odds[:count])) / costs.of(1 + count)

    offer = Offer(odds, made)
    best = max(map(rate, [0, *(n for n in range(1, len(odds) + 1) if 1 + n in SIZES)]))
    if best > rate(0) * LEAST_GAIN * 1.0001:
        assert rate(offer.count(costs)) == pytest.approx(best) == offer.value(costs)
    elif best < rate(0) * LEAST_GAIN:
        assert offer.count(costs) == 0


def test_guesses_that_would_lose_are_not_made() -> None:
    sure = Offer([0.95**n for n in range(1, 16)], made)
    assert sure.count(Costs(LINEAR)) == 0
    assert sure.count(Costs(FREE)) == 15
    assert Offer([0.05] * 3, made).count(Costs()) == 0
    assert Offer([0.9] * 15, made, price=1.0).count(Costs(FREE)) == 0


def test_rows_are_as_many_as_a_pass_may_have() -> None:
    assert [rows(1, 0), rows(4, 0), rows(1, 3), rows(1, 15), rows(4, 15), rows(32, 15)] == [
        1, 4, 4, 16, 16, 32,
    ]  # fmt: skip


class Parrot:
    """A draft model that knows the answer, or does not."""

    def __init__(self, knows: Sequence[int]) -> None:
        self.knows, self.asked = list(knows), list[int]()

    def guess(self, ids: Sequence[int], count: int, sequence: int) -> list[int]:
        self.asked.append(sequence)
        return self.knows[len(ids) : len(ids) + count]


def test_a_draft_model_is_asked_where_nothing_repeats() -> None:
    text = list(range(100, 160))
    speculation = Speculation(15, FREE)
    parrot = Parrot(text)
    speculation.use(parrot, 1000)
    speculation.costs.note(1, 1.0)
    guesser = speculation.begin(text[:5], sequence=2)
    found = speculation.guess(guesser, 15)
    assert found and found == text[5 : 5 + len(found)]
    assert parrot.asked == [2]


def test_a_draft_model_that_is_wrong_is_asked_less_and_less() -> None:
    speculation = Speculation(15, [(1, 1.0), (2, 1.4), (3, 1.8), (4, 2.0), (8, 3.5)])
    parrot = Parrot([7] * 1000)
    speculation.use(parrot, 1000)
    speculation.costs.note(1, 1.0)
    guesser = speculation.begin([1])
    for token in range(100, 400):
        speculation.guess(guesser, 15)
        guesser.chosen(token)
    assert 1 <= len(parrot.asked) < 60


def test_tokens_that_only_the_draft_model_has_are_no_guesses() -> None:
    drafts = Drafts(Parrot([1, 2, 3, 4096, 5]), vocabulary=4096)
    assert drafts.guess([], 5, 0) == [1, 2, 3]


def test_a_guesser_offers_what_followed_the_match() -> None:
    guesser = Guesser([1, 2, 3, 4, 5, 1, 2, 3], HitRates())
    offer = guesser.offer(4, Costs())
    assert offer.make(3) == [4, 5, 1]
    assert list(offer.odds) == sorted(offer.odds, reverse=True)
    assert len(offer.odds) == 4
    guesser.chosen(77)
    assert not guesser.offer(4, Costs()).odds

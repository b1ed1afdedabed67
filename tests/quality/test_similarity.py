"""Bigram similarity against counts by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pitool.quality.similarity import bigram_similarity, mean_similarity


@pytest.mark.parametrize(
    ("left", "right", "wanted"),
    [
        # ^a ab bc c$ and ^a ab bd d$: two of four and four.
        ("a b c", "a b d", 0.5),
        # ^a aa aa a$ and ^a aa a$: three shared, four and three.
        ("a a a", "a a", 6 / 7),
        ("yes", "no", 0.0),
        ("yes", "yes", 1.0),
        ("", "", 1.0),
        ("", "a", 0.0),
        ("a\n b", "a b", 1.0),
        # The same words in another order: ^a ab b$ against ^b ba a$.
        ("a b", "b a", 0.0),
    ],
)
def test_counted_by_hand(left: str, right: str, wanted: float) -> None:
    assert bigram_similarity(left, right) == pytest.approx(wanted)


@given(st.text("ab "), st.text("ab "))
def test_it_is_symmetric_and_one_only_for_equal_bigrams(left: str, right: str) -> None:
    found = bigram_similarity(left, right)
    assert 0 <= found <= 1
    assert found == bigram_similarity(right, left)
    if left.split() == right.split():
        assert found == 1


def test_the_mean_is_over_prompts() -> None:
    assert mean_similarity(["a b c", "x"], ["a b d", "x"]) == pytest.approx(0.75)
    with pytest.raises(ValueError, match="zip"):
        mean_similarity(["a"], ["a", "b"])

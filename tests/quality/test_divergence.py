"""Divergence and perplexity against sums written out in plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from pitool.quality.divergence import compare, log_softmax


def probabilities(row: list[float]) -> list[float]:
    powers = [math.exp(x - max(row)) for x in row]
    return [p / math.fsum(powers) for p in powers]


logits = arrays(np.float32, (5, 7), elements=st.floats(-12, 12, width=32))


@given(base=logits, other=logits, ids=st.lists(st.integers(0, 6), min_size=5, max_size=5))
def test_by_hand(base: NDArray[np.float32], other: NDArray[np.float32], ids: list[int]) -> None:
    divergences, surprise, base_surprise = [], [], []
    for i in range(4):
        p, q = probabilities(base[i].tolist()), probabilities(other[i].tolist())
        terms = [a * math.log(a / b) for a, b in zip(p, q, strict=True) if math.log(a) > -16]
        divergences.append(math.fsum(terms))
        surprise.append(-math.log(q[ids[i + 1]]))
        base_surprise.append(-math.log(p[ids[i + 1]]))
    found = compare(base, other, ids)
    assert found.tokens == 4
    assert found.mean_kl == pytest.approx(sum(divergences) / 4, rel=1e-6, abs=1e-9)
    assert found.max_kl == pytest.approx(max(divergences), rel=1e-6, abs=1e-9)
    assert found.perplexity == pytest.approx(math.exp(sum(surprise) / 4), rel=1e-6)
    assert found.base_perplexity == pytest.approx(math.exp(sum(base_surprise) / 4), rel=1e-6)
    same = [base[i].argmax() == other[i].argmax() for i in range(4)]
    assert found.top1 == sum(same) / 4


@given(base=logits, shift=st.floats(-50, 50, width=32))
def test_equal_logits_do_not_differ(base: NDArray[np.float32], shift: float) -> None:
    found = compare(base, base, [0] * 5)
    assert (found.mean_kl, found.max_kl, found.top1) == (0, 0, 1)
    moved = compare(base, base + np.float32(shift), [0] * 5)
    assert moved.mean_kl == pytest.approx(0, abs=1e-4)


def test_uniform_logits_have_the_vocabulary_as_perplexity() -> None:
    flat = np.zeros((4, 50), np.float32)
    found = compare(flat, flat, [1, 2, 3, 4])
    assert found.perplexity == pytest.approx(50)


def test_improbable_tokens_are_left_out() -> None:
    """As in llama-perplexity: what the base gives less than exp(-16) does not count."""
    base = np.array([[0.0, -17.0], [0, 0]], np.float32)
    other = np.array([[0.0, -40.0], [0, 0]], np.float32)
    found = compare(base, other, [0, 0])
    p = probabilities([0.0, -17.0])[0]
    assert found.mean_kl == pytest.approx(p * (math.log(p) - 0), abs=1e-12)


def test_the_first_rows_can_be_left_out() -> None:
    rng = np.random.default_rng(0)
    base, other = (rng.normal(size=(6, 9)).astype(np.float32) for _ in range(2))
    ids = [1, 2, 3, 4, 5, 6]
    assert compare(base, other, ids, skip=2) == compare(base[2:], other[2:], ids[2:])
    assert compare(base, other, ids, skip=2).tokens == 3


def test_large_logits_do_not_overflow() -> None:
    large = np.array([[3e38, -3e38, 0.0]], np.float32)
    np.testing.assert_array_equal(log_softmax(large)[0, 0], 0.0)

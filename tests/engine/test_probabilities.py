"""Log-probabilities of raw logits, against values by hand and numpy's own formula."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pitool.engine.probabilities import most_likely, probabilities


def spelled(token: int) -> bytes:
    return b"t%d" % token


def test_a_log_softmax_by_hand() -> None:
    logits = np.log(np.array([1, 2, 4, 1], np.float32))  # of a whole of 8
    found = probabilities(logits, 0, 2, spelled)
    assert found.chosen.id == 0
    assert found.chosen.logprob == pytest.approx(math.log(1 / 8), abs=1e-6)
    assert [(each.id, each.piece) for each in found.top] == [(2, b"t2"), (1, b"t1")]
    assert [each.logprob for each in found.top] == pytest.approx(
        [math.log(1 / 2), math.log(1 / 4)], abs=1e-6
    )


def test_large_logits_do_not_overflow() -> None:
    found = probabilities(np.array([1000.0, 1000.0], np.float32), 1, 0, spelled)
    assert found.chosen.logprob == pytest.approx(math.log(0.5))
    assert found.top == ()


@pytest.mark.parametrize("count", [0, 1, 3, 99, 100, 500])
def test_the_most_likely_are_the_first_of_a_stable_order(count: int) -> None:
    logits = np.random.default_rng(2).integers(0, 20, 100).astype(np.float32)
    expected = sorted(range(100), key=lambda i: (-logits[i], i))[:count]
    found = most_likely(logits, count)
    assert logits[found].tolist() == logits[expected].tolist()
    assert len(set(found.tolist())) == min(count, 100)

"""The numpy samplers against llama.cpp's own, and draws against the probabilities they follow."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pitool.engine.base import Sampling
from pitool.engine.onnx.sampler import Sampler
from pitool.errors import UsageError

SIZE = 1000
PLAIN = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=3)


@pytest.fixture(scope="module")
def logits() -> NDArray[np.float32]:
    return np.random.default_rng(5).normal(0, 3, SIZE).astype(np.float32)


def by_llama_cpp(
    sampling: Sampling, ids: list[int], logits: NDArray[np.float32]
) -> dict[int, float]:
    """Return tokens and probabilities that llama.cpp's chain leaves for the draw."""
    from pitool.engine.llamacpp.library import llama_cpp
    from pitool.engine.llamacpp.sampler import _stages

    data = (llama_cpp.llama_token_data * SIZE)()
    for i, value in enumerate(logits):
        data[i].id, data[i].logit = i, float(value)
    array = llama_cpp.llama_token_data_array(data=data, size=SIZE, selected=-1, sorted=False)
    *stages, last = _stages(sampling, SIZE)
    llama_cpp.llama_sampler_free(last)  # the draw itself
    for stage in stages:
        for token in ids[-sampling.repeat_window :]:
            llama_cpp.llama_sampler_accept(stage, token)
        llama_cpp.llama_sampler_apply(stage, ctypes.byref(array))
        llama_cpp.llama_sampler_free(stage)
    left = {array.data[i].id: array.data[i].logit for i in range(array.size)}
    top = max(left.values())
    shares = {token: float(np.exp(value - top)) for token, value in left.items()}
    return {token: share / sum(shares.values()) for token, share in shares.items()}


@pytest.mark.engine
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"temperature": 0.4},
        {"temperature": 1.9, "top_k": 7},
        {"top_k": 1},
        {"top_k": 5000},
        {"top_p": 0.7},
        {"top_p": 0.0},
        {"min_p": 0.05},
        {"min_p": 1.0},
        {"top_k": 40, "top_p": 0.9, "min_p": 0.05, "temperature": 0.8},
        {"top_k": 40, "repeat_penalty": 1.8, "repeat_window": 64},
        {"top_k": 40, "repeat_penalty": 0.7, "repeat_window": 3},
        {"top_k": 40, "repeat_penalty": 1.8, "repeat_window": 0},
        {"top_k": 40, "presence_penalty": 1.5},
        {"top_k": 40, "frequency_penalty": -0.7, "repeat_window": 5},
        {"repeat_penalty": 1.2, "presence_penalty": 0.3, "frequency_penalty": 0.9},
        {"top_k": 5, "logit_bias": ((3, 30.0), (4, -100.0))},
        {"logit_bias": ((3, 4.0),), "repeat_penalty": 1.5, "frequency_penalty": 0.5},
    ],
)
def test_the_candidates_are_those_of_llama_cpp(
    changes: dict[str, Any], logits: NDArray[np.float32]
) -> None:
    sampling = replace(PLAIN, **changes)
    best = np.argsort(-logits)
    ids = [int(best[i]) for i in (0, 1, 1, 3, 999, 998, 2, 7)] * 2
    if sampling.repeat_window == 0:
        expected = by_llama_cpp(replace(sampling, repeat_penalty=1.0), [], logits)
    else:
        expected = by_llama_cpp(sampling, ids, logits)
    sampler = Sampler(sampling, ids, SIZE)
    tokens, shares = sampler.candidates(sampler.penalised(sampler.biased(logits)))
    assert set(tokens.tolist()) == set(expected)
    assert np.all(np.diff(shares) <= 0)
    wanted = [expected[token] for token in tokens.tolist()]
    np.testing.assert_allclose(shares, wanted, rtol=1e-4, atol=1e-7)


def test_draws_follow_the_softmax_of_logits_over_temperature() -> None:
    logits = np.array([1.0, 3.0, 0.0, 2.0], np.float32)
    sampler = Sampler(replace(PLAIN, temperature=2.0), [], 4)
    count = 20_000
    drawn = np.bincount([sampler.draw(logits) for _ in range(count)], minlength=4)
    weights = np.exp(np.array([1.0, 3.0, 0.0, 2.0]) / 2.0)
    expected = weights / weights.sum() * count
    chi_squared = ((drawn - expected) ** 2 / expected).sum()
    assert chi_squared < 16.27  # 0.1 % of chance with 3 degrees of freedom


def test_greedy_takes_the_first_of_equal_logits() -> None:
    logits = np.array([0.0, 5.0, 5.0], np.float32)
    assert Sampler(Sampling(temperature=0), [], 3).draw(logits) == 1


def test_greedy_with_a_penalty_by_hand() -> None:
    logits = np.array([-1.0, 5.0, 4.0, 3.0], np.float32)
    sampler = Sampler(Sampling(temperature=0, repeat_penalty=2.0, repeat_window=2), [], 4)
    # 5 becomes 2.5, then 4 becomes 2, then 3 becomes 1.5 and 5 is out of the window again.
    assert [sampler.draw(logits) for _ in range(4)] == [1, 2, 3, 1]
    assert logits.tolist() == [-1.0, 5.0, 4.0, 3.0]


def test_penalties_and_bias_by_hand() -> None:
    logits = np.array([3.0, 2.0, 1.0, 0.0], np.float32)
    penalised = Sampler(Sampling(frequency_penalty=0.5, presence_penalty=1.0), [0, 2, 0], 4)
    assert penalised.penalised(logits).tolist() == [3 - 2 * 0.5 - 1, 2.0, 1 - 0.5 - 1, 0.0]
    biased = Sampler(Sampling(temperature=0, logit_bias=((3, 4.0),)), [], 4)
    assert biased.biased(logits).tolist() == [3.0, 2.0, 1.0, 4.0]
    assert biased.draw(logits) == 3
    assert logits.tolist() == [3.0, 2.0, 1.0, 0.0]


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(UsageError, match="grammar"):
        Sampler(Sampling(grammar='root ::= "a"'), [], 4)
    with pytest.raises(UsageError, match="token 4"):
        Sampler(Sampling(logit_bias=((4, 1.0),)), [], 4)


def test_a_seed_makes_draws_repeatable(logits: NDArray[np.float32]) -> None:
    def drawn(seed: int | None) -> list[int]:
        sampler = Sampler(replace(PLAIN, seed=seed), [], SIZE)
        return [sampler.draw(logits) for _ in range(30)]

    assert drawn(3) == drawn(3)
    assert drawn(-1) == drawn(-1)
    assert drawn(3) != drawn(4)
    assert drawn(None) != drawn(None)

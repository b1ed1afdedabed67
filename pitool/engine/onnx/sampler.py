"""Chooses the next token from logits: llama.cpp's samplers, in its usual order, in numpy."""

from __future__ import annotations

import secrets
from collections import Counter, deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pitool.engine.base import Sampling
from pitool.engine.probabilities import check_bias, most_likely
from pitool.errors import UsageError

Logits = NDArray[np.float32]


class Sampler:
    """Bias, penalties, top-k, top-p, min-p, temperature, then a draw; see ``Sampling``.

    As in llama.cpp, top-p and min-p look at probabilities at temperature 1, top-p at those that
    top-k has left. The sources: Holtzman et al. 2020 (top-p), Nguyen et al. 2024 (min-p), Keskar
    et al. 2019 (penalty). UsageError for a grammar, which only llama.cpp has.
    """

    def __init__(self, sampling: Sampling, ids: Sequence[int], vocabulary: int) -> None:
        if sampling.grammar:
            raise UsageError(
                "an ONNX model cannot follow a grammar, a schema or a forced tool call",
                "use its GGUF",
            )
        check_bias(sampling, vocabulary)
        self.greedy = sampling.temperature <= 0
        self._sampling = sampling
        window = sampling.repeat_window if sampling.penalises else 0
        self._last = deque(ids, maxlen=max(window, 0))
        seed = secrets.randbits(64) if sampling.seed is None else sampling.seed & (1 << 64) - 1
        self._random = np.random.default_rng(seed)

    def draw(self, logits: Logits) -> int:
        """Choose a token from logits of shape (vocabulary,), which stay as they are."""
        logits = self.weighed(logits)
        if self._sampling.temperature <= 0:
            token = int(logits.argmax())
        else:
            ids, shares = self.candidates(logits)
            place = np.searchsorted(shares.cumsum(), self._random.random(), side="right")
            token = int(ids[min(int(place), len(ids) - 1)])
        self._last.append(token)
        return token

    def weighed(self, logits: Logits) -> Logits:
        """Return logits with bias and penalties, as a draw sees them."""
        return self.penalised(self.biased(logits))

    def biased(self, logits: Logits) -> Logits:
        """Return logits with what the sampling adds to some of them."""
        if not self._sampling.logit_bias:
            return logits
        changed = logits.copy()
        for token, amount in self._sampling.logit_bias:
            changed[token] += amount
        return changed

    def penalised(self, logits: Logits) -> Logits:
        """Return logits in which each token of the window is less likely."""
        if not self._last:
            return logits
        s, times = self._sampling, Counter(self._last)
        seen = np.fromiter(times.keys(), np.int64)
        counts = np.fromiter(times.values(), np.float32)
        changed = logits.copy()
        factor = np.float32(s.repeat_penalty)
        values = changed[seen]
        values = np.where(values <= 0, values * factor, values / factor)
        changed[seen] = values - counts * s.frequency_penalty - s.presence_penalty
        return changed

    def candidates(self, logits: Logits) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the tokens that may be drawn, most likely first, and their probabilities."""
        s = self._sampling
        ids = most_likely(logits, s.top_k or len(logits))
        values = logits[ids].astype(np.float64)
        keep = len(ids)
        if s.top_p < 1:
            reached = softmax(values).cumsum()
            keep = min(keep, int(np.searchsorted(reached, s.top_p)) + 1)
        if s.min_p > 0:
            near = values >= values[0] + np.log(s.min_p)
            keep = min(keep, max(int(near.sum()), 1))
        return ids[:keep], softmax(values[:keep] / s.temperature)


def softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities of logits that are in falling order."""
    shares = np.exp(values - values[0])
    total: NDArray[np.float64] = shares / shares.sum()
    return total

"""How likely tokens are by a model's own logits, before any penalty, bias or temperature."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pitool.engine.base import Sampling, TokenProbability
from pitool.errors import UsageError


class Probabilities(NamedTuple):
    """Of the token that was chosen, and of the most likely ones."""

    chosen: TokenProbability
    top: tuple[TokenProbability, ...]


def probabilities(
    logits: NDArray[np.float32], chosen: int, count: int, spelled: Callable[[int], bytes]
) -> Probabilities:
    """Return the log-softmax of a row of logits at ``chosen`` and at its ``count`` largest.

    ``spelled`` gives the bytes of a token, those of a special one too.
    """
    values = logits.astype(np.float64)
    largest = values.max()
    total = largest + np.log(np.exp(values - largest).sum())

    def of(token: int) -> TokenProbability:
        return TokenProbability(token, spelled(token), float(values[token] - total))

    return Probabilities(of(chosen), tuple(of(int(token)) for token in most_likely(logits, count)))


def close_call(logits: NDArray[np.float32], margin: float) -> bool:
    """Tell whether the largest logit is less than ``margin`` above another one."""
    return bool(np.count_nonzero(logits > logits.max() - margin) > 1)


def most_likely(logits: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the ids of the ``count`` largest logits, largest first."""
    if count <= 0:
        return np.zeros(0, np.int64)
    if count >= len(logits):
        return np.argsort(-logits, kind="stable")
    ids = np.argpartition(logits, len(logits) - count)[-count:]
    return ids[np.argsort(-logits[ids], kind="stable")]


def check_bias(sampling: Sampling, vocabulary: int) -> None:
    """Raise UsageError for a bias of a token that the model does not have."""
    for token, _ in sampling.logit_bias:
        if not 0 <= token < vocabulary:
            raise UsageError(
                f"logit_bias has token {token}, and the model's go from 0 to {vocabulary - 1}",
                "use ids of this model's tokens",
            )

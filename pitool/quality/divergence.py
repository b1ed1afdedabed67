"""Compares two sets of logits by llama-perplexity's definitions.

KL divergence is of the base from the other, in nats per token: sum of p (ln p - ln q) over the
vocabulary, where terms with ln p <= -16 are left out. Owns arithmetic only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEGLIGIBLE = -16.0


@dataclass(frozen=True, slots=True)
class Divergence:
    """``tokens`` predictions compared; see ``spec.manifest.Certificate`` for the figures."""

    tokens: int
    mean_kl: float
    max_kl: float
    top1: float
    perplexity: float
    base_perplexity: float


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return log-probabilities along the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def compare(
    base: NDArray[np.float32], other: NDArray[np.float32], ids: Sequence[int], skip: int = 0
) -> Divergence:
    """Return how far ``other`` is from ``base``; both of shape (tokens, vocabulary).

    Row i predicts ``ids[i + 1]``. The first ``skip`` rows, which see little context, are not
    scored. Needs at least one scored row.
    """
    following = np.asarray(ids[1:])[skip:]
    scored = [a[skip : len(ids) - 1] for a in (base, other)]
    p, q = (log_softmax(a) for a in scored)
    first, second = (a.argmax(-1) for a in scored)
    terms = np.where(p > NEGLIGIBLE, np.exp(p) * (p - q), 0.0)
    divergence = terms.sum(-1)
    rows = np.arange(len(following))
    return Divergence(
        tokens=len(following),
        mean_kl=float(divergence.mean()),
        max_kl=float(divergence.max()),
        top1=float((first == second).mean()),
        perplexity=float(np.exp(-q[rows, following].mean())),
        base_perplexity=float(np.exp(-p[rows, following].mean())),
    )

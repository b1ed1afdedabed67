"""Compares two sets of logits by llama-perplexity's definitions.

A text is cut into windows of 512 tokens; only the second half of each is scored, so that every
prediction sees context. Where the tokenizer puts a token at the beginning of a text, every window
begins with it.

KL divergence is of the base from the other, in nats per token: sum of p (ln p - ln q) over the
vocabulary, where terms with ln p <= -16 are left out. Owns arithmetic only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW = 512
NEGLIGIBLE = -16.0
# Of logits in float64 that are held at once.
SLAB_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Divergence:
    """``tokens`` predictions compared; see ``catalog.manifest.Certificate`` for the figures."""

    tokens: int
    mean_kl: float
    median_kl: float
    p99_kl: float
    max_kl: float
    top1: float
    perplexity: float
    base_perplexity: float


@dataclass(frozen=True, slots=True)
class Scores:
    """What two models say of each token, so that windows can be put together.

    ``kl`` in nats, ``same`` whether the likeliest token is equal, ``surprise`` and
    ``base_surprise`` -ln of the probability of the token that follows; each of shape (tokens,).
    """

    kl: NDArray[np.float64]
    same: NDArray[np.bool_]
    surprise: NDArray[np.float64]
    base_surprise: NDArray[np.float64]


def cut_windows(
    ids: Sequence[int], begin: Sequence[int] = (), size: int = WINDOW
) -> list[list[int]]:
    """Return the whole windows of ``size`` tokens; a shorter text is one window.

    ``begin``: what an empty text tokenizes to.
    """
    if len(ids) < size:
        return [list(ids)]
    starts = range(0, len(ids) - size + 1, size)
    first = list(begin[:1])
    return [first + list(ids[s + len(first) : s + size]) for s in starts]


def unscored(window: Sequence[int]) -> int:
    """Return how many rows at the beginning of a window do not count."""
    return len(window) // 2


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return log-probabilities along the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def score(
    base: NDArray[np.float32], other: NDArray[np.float32], ids: Sequence[int], skip: int = 0
) -> Scores:
    """Return the scores of a window; both logits of shape (tokens, vocabulary).

    Row i predicts ``ids[i + 1]``. The first ``skip`` rows, which see little context, are not
    scored.
    """
    rows = slice(skip, len(ids) - 1)
    return score_rows(base[rows], other[rows], ids[skip + 1 :])


def score_rows(
    base: NDArray[np.float32], other: NDArray[np.float32], following: Sequence[int]
) -> Scores:
    """Return the scores of rows of logits, of which each predicts one of ``following``."""
    targets = np.asarray(following)
    parts = [_score(base[s], other[s], targets[s]) for s in _slabs(base)]
    kl, same, surprise, base_surprise = zip(*parts, strict=True)
    return Scores(*map(np.concatenate, (kl, same, surprise, base_surprise)))


def _score(
    base: NDArray[np.float32], other: NDArray[np.float32], following: NDArray[np.int_]
) -> tuple[NDArray[Any], ...]:
    p, q = log_softmax(base), log_softmax(other)
    terms = np.where(p > NEGLIGIBLE, np.exp(p) * (p - q), 0.0)
    at = np.arange(len(following)), following
    return terms.sum(-1), base.argmax(-1) == other.argmax(-1), -q[at], -p[at]


def squares(base: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return two mean squares for each row of logits: of the difference, and of the base's own.

    Both about the mean over the vocabulary, which no softmax sees. Shape (2, rows).
    """
    parts = []
    for s in _slabs(base):
        own = base[s].astype(np.float64)
        parts.append(((other[s] - own).var(-1), own.var(-1)))
    return np.concatenate(parts, axis=1)


def spread_share(
    both: NDArray[np.float64], middle: Callable[[NDArray[np.float64]], Any] = np.mean
) -> float:
    """Return the middle difference as a share of the base's own spread; ``both``: ``squares``."""
    apart, own = both
    return float(np.sqrt(middle(apart) / max(own.mean(), np.finfo(np.float64).tiny)))


def _slabs(logits: NDArray[np.float32]) -> list[slice]:
    """Return runs of rows that are small in float64."""
    rows = max(SLAB_BYTES // (8 * logits.shape[-1]), 1)
    return [slice(i, i + rows) for i in range(0, len(logits), rows)]


def summarise(windows: Sequence[Scores]) -> Divergence:
    """Return the figures over all windows, which hold at least one token together."""
    kl = np.concatenate([w.kl for w in windows])
    return Divergence(
        tokens=len(kl),
        mean_kl=float(kl.mean()),
        median_kl=float(np.median(kl)),
        p99_kl=float(np.quantile(kl, 0.99)),
        max_kl=float(kl.max()),
        top1=float(np.concatenate([w.same for w in windows]).mean()),
        perplexity=float(np.exp(np.concatenate([w.surprise for w in windows]).mean())),
        base_perplexity=float(np.exp(np.concatenate([w.base_surprise for w in windows]).mean())),
    )


def compare(
    base: NDArray[np.float32], other: NDArray[np.float32], ids: Sequence[int], skip: int = 0
) -> Divergence:
    """Return how far ``other`` is from ``base`` over one window; see ``score``."""
    return summarise([score(base, other, ids, skip)])

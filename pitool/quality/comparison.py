"""How an artifact's logits differ from other logits of the same text, and the certificate of that.

The one reading of both, whether the other logits are a checkpoint's or another artifact's. Owns
neither the text nor what a difference means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pitool.catalog.manifest import Certificate, KindQuality
from pitool.errors import PitoolError
from pitool.quality import compact
from pitool.quality.compact import CompactReference
from pitool.quality.divergence import (
    Divergence,
    score_rows,
    spread_share,
    squares,
    summarise,
    unscored,
)
from pitool.quality.health import LogitsEngine
from pitool.quality.kinds import Kind


class Base(Protocol):
    """What is compared with: windows of token ids, and the logits of their rows that are scored.

    ``compact``: the part of it that travels with a bundle; ``kinds``: other texts, told apart.
    """

    @property
    def windows(self) -> Sequence[Sequence[int]]:
        """The tokens."""

    @property
    def logits(self) -> Sequence[NDArray[np.float32]]:
        """An array (rows, vocabulary) for each window."""

    @property
    def compact(self) -> CompactReference:
        """See the class."""

    @property
    def kinds(self) -> Sequence[Kind]:
        """See the class."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How an artifact differs from what it is compared with.

    ``error``: the root mean square of the logits' difference as a share of their own spread;
    ``typical``: the same of the median token, which a few tokens that went to another expert do not
    move. ``compact_kl``: the mean against the compact reference. ``kinds``: of each kind of text.
    """

    divergence: Divergence
    error: float
    typical: float
    compact_kl: float
    kinds: tuple[KindQuality, ...] = ()


def scored_rows(ids: Sequence[int]) -> slice:
    """Return the rows of a window that are scored."""
    return slice(unscored(ids), len(ids) - 1)


def compare(
    engine: LogitsEngine,
    base: Base,
    name: str,
    on_window: Callable[[int], None] = lambda _: None,
) -> Difference:
    """Return how an engine differs; PitoolError, by ``name``, for logits that are not finite."""
    scores, apart = [], []
    heads: list[NDArray[np.float32]] = []
    length = base.compact.ids.shape[1]
    for other, ids in zip(base.logits, base.windows, strict=True):
        rows = _logits(engine, ids, name)
        if len(heads) < len(base.compact.ids):
            heads.append(rows[:length].copy())
        scored = rows[scored_rows(ids)]
        scores.append(score_rows(other, scored, ids[unscored(ids) + 1 :]))
        apart.append(squares(other, scored))
        on_window(1)
    rows_apart = np.concatenate(apart, axis=1)
    return Difference(
        summarise(scores),
        spread_share(rows_apart),
        spread_share(rows_apart, np.median),
        compact.compare(base.compact, heads).mean_kl,
        tuple(_kind(engine, kind, name, on_window) for kind in base.kinds),
    )


def _kind(
    engine: LogitsEngine, kind: Kind, name: str, on_window: Callable[[int], None]
) -> KindQuality:
    """Return the figures of one kind of text."""
    scores = []
    for other, ids in zip(kind.logits, kind.windows, strict=True):
        rows = _logits(engine, ids, name)
        scores.append(score_rows(other, rows[scored_rows(ids)], ids[unscored(ids) + 1 :]))
        on_window(1)
    found = summarise(scores)
    return KindQuality(
        kind.name, found.tokens, found.mean_kl, found.median_kl, found.p99_kl, found.top1
    )


def _logits(engine: LogitsEngine, ids: Sequence[int], name: str) -> NDArray[np.float32]:
    rows = engine.logits(ids)
    if not np.isfinite(rows).all():
        raise PitoolError(
            f"{name} produces logits that are not finite", "choose another quantisation"
        )
    return rows


def certificate(
    found: Difference, *, reference: str, text: str, verified: bool, unseen: str = ""
) -> Certificate:
    """Return the certificate of a comparison; for the words see ``Certificate``."""
    result = found.divergence
    return Certificate(
        reference=reference,
        text=text,
        tokens=result.tokens,
        mean_kl=result.mean_kl,
        max_kl=result.max_kl,
        top1=result.top1,
        perplexity=result.perplexity,
        reference_perplexity=result.base_perplexity,
        median_kl=result.median_kl,
        p99_kl=result.p99_kl,
        compact_kl=found.compact_kl,
        verified=verified,
        logit_error=found.error,
        unseen=unseen,
        kinds=found.kinds,
    )

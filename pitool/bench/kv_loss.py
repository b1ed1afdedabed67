"""What another type of the KV cache changes: KL divergence from the present one, on a text."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

from pitool.engine.base import Engine, Settings
from pitool.quality import texts
from pitool.quality.divergence import compare

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TOKENS = 128
"""Of which the second half is scored: two tables of so many rows of logits fit a board."""
MOST = 0.01
"""Nats per token: an eighth of what Q4_K_M costs SmolLM2-135M."""


def kv_loss(
    base: Settings,
    other: Settings,
    open_engine: Callable[[Settings], AbstractContextManager[Engine]],
) -> float:
    """Return the mean KL divergence of ``other``'s logits from those of ``base``, in nats."""
    with open_engine(_rows(base)) as engine:
        ids = engine.tokenize(texts.built_in(engine.tokenize, TOKENS))[:TOKENS]
        expected = _second_half(engine.logits(ids))
    with open_engine(_rows(other)) as engine:
        found = _second_half(engine.logits(ids))
    return compare(expected, found, ids[len(ids) // 2 :]).mean_kl


def _rows(settings: Settings) -> Settings:
    return replace(settings, outputs=64, micro_batch=max(settings.micro_batch, 64))


def _second_half(table: NDArray[np.float32]) -> NDArray[np.float32]:
    return table[len(table) // 2 :].copy()

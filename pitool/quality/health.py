"""Says whether a bundle is what was converted: its files, and its runtime's answers here.

Owns the verdicts; the engine is opened by whoever asks. Needs no host package, so that a board
verifies its own runtime.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pitool.catalog import manifest
from pitool.catalog.bundles import Bundle
from pitool.errors import BadInput
from pitool.quality import compact, windows
from pitool.quality.divergence import Divergence, log_softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What another CPU's kernels and order of summation may add to the mean KL divergence.
RUNTIME_SHARE = 1.5
RUNTIME_KL = 5e-3


class LogitsEngine(Protocol):
    """The part of an engine that a verification uses."""

    def tokenize(self, prompt: str) -> list[int]:
        """Return token ids of a text."""

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Return the logits after each token, shape (tokens, vocabulary)."""


def read_reference(bundle: Bundle) -> compact.CompactReference:
    """Return the compact reference of a bundle; BadInput when it has none."""
    entry = bundle.manifest.reference
    if entry is None:
        raise BadInput(
            f"{bundle.path} has no compact reference",
            "convert the model again, or compare with the checkpoint: --reference DIR",
        )
    return compact.read(bundle.path / entry.path)


def measure(engine: LogitsEngine, reference: compact.CompactReference) -> Divergence:
    """Return how far the runtime's answers are from the compact reference (a lower bound)."""
    return compact.compare(reference, [engine.logits(ids.tolist()) for ids in reference.ids])


def perplexity(engine: LogitsEngine, text: str, tokens: int) -> tuple[float, int]:
    """Return the perplexity of a text's first tokens and how many predictions were scored."""
    ids = engine.tokenize(text)[:tokens]
    if len(ids) < 4:
        raise BadInput(f"the text has {len(ids)} tokens", "give a longer one")
    surprise = []
    for window in windows.cut(ids, engine.tokenize("") if len(ids) >= windows.WINDOW else ()):
        skip = windows.unscored(window)
        q = log_softmax(engine.logits(window)[skip : len(window) - 1])
        surprise.append(-q[np.arange(len(q)), window[skip + 1 :]])
    scores = np.concatenate(surprise)
    return float(np.exp(scores.mean())), len(scores)


def as_converted(found: Divergence, certificate: manifest.Certificate | None) -> bool:
    """Tell whether a runtime's divergence is that of the certificate but for rounding."""
    if certificate is None or certificate.compact_kl is None:
        return True
    return found.mean_kl <= RUNTIME_SHARE * certificate.compact_kl + RUNTIME_KL

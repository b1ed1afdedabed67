"""Says whether a runtime here answers as an artifact did when it was converted.

Owns the figures and the judgement; engines are opened by whoever asks. Needs no host package, so
that a board verifies its own runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pitool.catalog.bundles import Bundle, Runnable
from pitool.catalog.manifest import Certificate, KindQuality
from pitool.catalog.reading import read_text
from pitool.engine.base import Engine, Prompt
from pitool.errors import BadInput
from pitool.quality import compact
from pitool.quality.compact import CompactReference
from pitool.quality.divergence import WINDOW, Divergence, cut_windows, log_softmax, unscored
from pitool.report.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What another CPU's kernels and order of summation may add to the mean KL divergence.
RUNTIME_SHARE = 1.5
RUNTIME_KL = 5e-3
# Of a text that the user gives, how many tokens are scored, and in what context.
TEXT_TOKENS = 2048
TEXT_CONTEXT = 512


class LogitsEngine(Protocol):
    """The part of an engine that a verification uses."""

    def tokenize(self, prompt: Prompt) -> list[int]:
        """Return token ids of a text or a conversation."""

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Return the logits after each token, shape (tokens, vocabulary)."""


OpenArtifact = Callable[[Runnable, int], AbstractContextManager[Engine]]
"""Loads an artifact with room for the logits of so many tokens."""


@dataclass(frozen=True, slots=True)
class AnswerCheck:
    """How one artifact answers: ``reference`` names what it was compared with.

    ``ok``: as it did when it was converted; ``certified_kl``: the figure of its certificate that
    ``mean_kl`` stands beside. The others are those of a ``Divergence``, None without a reference;
    ``kinds``: chat, prose and code apart, where they were read.
    """

    quantisation: str
    reference: str
    tokens: int
    perplexity: float
    ok: bool = True
    mean_kl: float | None = None
    median_kl: float | None = None
    p99_kl: float | None = None
    max_kl: float | None = None
    top1: float | None = None
    certified_kl: float | None = None
    kinds: tuple[KindQuality, ...] = ()


def answer_check(runnable: Runnable, found: Certificate) -> AnswerCheck:
    """Return a comparison that was just made, beside the certificate of the bundle."""
    known = runnable.artifact.certificate if runnable.artifact else None
    return AnswerCheck(
        quantisation=runnable.quantisation,
        reference=found.reference,
        tokens=found.tokens,
        perplexity=found.perplexity,
        mean_kl=found.mean_kl,
        median_kl=found.median_kl,
        p99_kl=found.p99_kl,
        max_kl=found.max_kl,
        top1=found.top1,
        certified_kl=known.mean_kl if known else None,
        kinds=found.kinds,
    )


def check_against_compact(
    bundle: Bundle,
    runnables: Sequence[Runnable],
    open_artifact: OpenArtifact,
    progress: Progress,
) -> Iterator[AnswerCheck]:
    """Yield how each artifact answers beside the reference that travels in its bundle."""
    reference = read_reference(bundle)
    for runnable in runnables:
        progress.stage(f"running {runnable.quantisation}", 1)
        with open_artifact(runnable, reference.ids.shape[1]) as engine:
            _check_vocabulary(reference, engine)
            found = measure(engine, reference)
        certificate = runnable.artifact.certificate if runnable.artifact else None
        yield AnswerCheck(
            runnable.quantisation,
            "compact",
            found.tokens,
            found.perplexity,
            as_converted(found, certificate),
            found.mean_kl,
            found.median_kl,
            found.p99_kl,
            found.max_kl,
            found.top1,
            certificate.compact_kl if certificate else None,
        )


def check_on_text(
    runnables: Sequence[Runnable], text: Path, open_artifact: OpenArtifact
) -> Iterator[AnswerCheck]:
    """Yield the perplexity of each artifact on a file's first tokens."""
    content = read_text(text)[: TEXT_TOKENS * 8]
    for runnable in runnables:
        with open_artifact(runnable, TEXT_CONTEXT) as engine:
            value, tokens = perplexity(engine, content, TEXT_TOKENS)
        yield AnswerCheck(runnable.quantisation, text.name, tokens, value)


def _check_vocabulary(reference: CompactReference, engine: Engine) -> None:
    """Raise BadInput when the reference's tokens are not of this model's vocabulary."""
    most = int(max(reference.ids.max(), reference.top.max()))
    if most >= engine.info.vocabulary:
        raise BadInput("the reference belongs to another model", "convert or copy the bundle again")


def read_reference(bundle: Bundle) -> CompactReference:
    """Return the compact reference of a bundle; BadInput when it has none."""
    entry = bundle.manifest.reference
    if entry is None:
        raise BadInput(
            f"{bundle.path} has no compact reference",
            "convert the model again, or compare with the checkpoint: --reference DIR",
        )
    return compact.read(bundle.path / entry.path)


def measure(engine: LogitsEngine, reference: CompactReference) -> Divergence:
    """Return how far the runtime's answers are from the compact reference (a lower bound)."""
    return compact.compare(reference, [engine.logits(ids.tolist()) for ids in reference.ids])


def perplexity(engine: LogitsEngine, text: str, tokens: int) -> tuple[float, int]:
    """Return the perplexity of a text's first tokens and how many predictions were scored."""
    ids = engine.tokenize(text)[:tokens]
    if len(ids) < 4:
        raise BadInput(f"the text has {len(ids)} tokens", "use a longer text")
    surprise = []
    for window in windows_of(engine, ids):
        skip = unscored(window)
        q = log_softmax(engine.logits(window)[skip : len(window) - 1])
        surprise.append(-q[np.arange(len(q)), window[skip + 1 :]])
    scores = np.concatenate(surprise)
    return float(np.exp(scores.mean())), len(scores)


def windows_of(engine: LogitsEngine, ids: Sequence[int], size: int = WINDOW) -> list[list[int]]:
    """Return the windows of a text's tokens, each begun as the engine begins a text."""
    return cut_windows(ids, engine.tokenize("") if len(ids) >= size else (), size)


def as_converted(found: Divergence, certificate: Certificate | None) -> bool:
    """Tell whether a runtime's divergence is that of the certificate but for rounding."""
    if certificate is None or certificate.compact_kl is None:
        return True
    return found.mean_kl <= RUNTIME_SHARE * certificate.compact_kl + RUNTIME_KL

"""A reference small enough to travel in a bundle: the likeliest tokens and the tail's mass.

A board holds it against its own runtime without the checkpoint. The divergence computed from it
is a lower bound of the full one: joining outcomes never increases KL divergence (the log-sum
inequality; Cover and Thomas, Elements of Information Theory, theorem 2.7.1).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pitool.catalog.files import write_atomically
from pitool.engine.arrays import open_arrays
from pitool.errors import BadInput
from pitool.quality.divergence import Divergence, Scores, log_softmax, summarise, unscored

FILE_NAME = "reference.npz"
TOP = 32
# Logits of one window, float32: what a board with 1 GB holds beside the model.
WINDOW_BYTES = 64 << 20
MOST_WINDOWS = 4
# Four windows of 4096 tokens with the 32 likeliest of each take 2 MiB.
_LARGEST_ARRAY = 32 << 20
_LAYOUT = {
    "ids": ("<i4", 2),
    "top": ("<i4", 3),
    "log_p": ("<f4", 3),
    "tail": ("<f4", 2),
    "log_next": ("<f4", 2),
}


@dataclass(frozen=True, slots=True)
class CompactReference:
    """The reference's probabilities at the scored rows of a few windows of equal length.

    ``ids`` (windows, tokens), ``top`` ids and ``log_p`` (windows, rows, k) of the likeliest
    tokens, the first the likeliest; ``tail`` (windows, rows) the probability of all others;
    ``log_next`` (windows, rows) of the token that follows.
    """

    ids: NDArray[np.int32]
    top: NDArray[np.int32]
    log_p: NDArray[np.float32]
    tail: NDArray[np.float32]
    log_next: NDArray[np.float32]


def make(
    windows: Sequence[Sequence[int]], logits: Sequence[NDArray[np.float32]], k: int = TOP
) -> CompactReference:
    """Return the compact form of logits, one array (tokens, vocabulary) a window.

    Of each window only the first ``length`` rows are used.
    """
    size = logits[0].shape[-1]
    short = length(windows[0], size)
    k = min(k, size)
    parts = [
        _compact_window(list(ids[:short]), rows[:short], k)
        for ids, rows in zip(windows[:MOST_WINDOWS], logits[:MOST_WINDOWS], strict=True)
    ]
    ids = np.array([window[:short] for window in windows[:MOST_WINDOWS]], np.int32)
    return CompactReference(ids, *(np.stack(column) for column in zip(*parts, strict=True)))


def length(window: Sequence[int], vocabulary: int) -> int:
    """Return how many tokens of a window the compact reference covers."""
    return max(min(len(window), WINDOW_BYTES // (4 * vocabulary)), 4)


def _compact_window(
    ids: list[int], logits: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    skip = unscored(ids)
    p = log_softmax(logits[skip : len(ids) - 1])
    top = np.argpartition(-p, k - 1, axis=-1)[:, :k]
    order = np.argsort(-np.take_along_axis(p, top, -1), axis=-1, kind="stable")
    top = np.take_along_axis(top, order, -1)
    kept = np.take_along_axis(p, top, -1)
    rest = np.exp(p)
    np.put_along_axis(rest, top, 0, -1)
    following = p[np.arange(len(p)), ids[skip + 1 :]]
    return (
        top.astype(np.int32),
        kept.astype(np.float32),
        rest.sum(-1).astype(np.float32),
        following.astype(np.float32),
    )


def compare(reference: CompactReference, logits: Sequence[NDArray[np.float32]]) -> Divergence:
    """Return the figures of a runtime's logits, one array (tokens, vocabulary) a window."""
    return summarise(
        [_score(reference, i, window_logits) for i, window_logits in enumerate(logits)]
    )


def _score(reference: CompactReference, i: int, logits: NDArray[np.float32]) -> Scores:
    ids = reference.ids[i]
    skip = unscored(ids)
    q = log_softmax(logits[skip : len(ids) - 1])
    top = reference.top[i]
    log_p, p_tail = reference.log_p[i].astype(np.float64), reference.tail[i].astype(np.float64)
    log_q = np.take_along_axis(q, top, -1)
    rest = np.exp(q)
    np.put_along_axis(rest, top, 0, -1)
    q_tail = np.maximum(rest.sum(-1), np.finfo(np.float64).tiny)
    tail = np.where(p_tail > 0, p_tail * (np.log(np.maximum(p_tail, 1e-300)) - np.log(q_tail)), 0)
    kl = (np.exp(log_p) * (log_p - log_q)).sum(-1) + tail
    following = q[np.arange(len(q)), ids[skip + 1 :]]
    same = q.argmax(-1) == top[:, 0]
    return Scores(kl, same, -following, -reference.log_next[i].astype(np.float64))


def write(path: Path, reference: CompactReference) -> None:
    """Write the reference as an .npz of plain arrays, whole or not at all."""
    buffer = io.BytesIO()
    arrays = {f.name: getattr(reference, f.name) for f in fields(reference)}
    np.savez_compressed(buffer, **arrays)
    write_atomically(path, buffer.getvalue())


def read(path: Path) -> CompactReference:
    """Return what ``write`` wrote; BadInput when it is damaged. Nothing is unpickled."""
    try:
        with open_arrays(path, _LARGEST_ARRAY) as stored:
            arrays = {name: stored.read(name, *layout) for name, layout in _LAYOUT.items()}
        found = CompactReference(**arrays)
        _check(found)
    except ValueError as error:
        raise BadInput(f"cannot read {path} ({error})", "copy the bundle again") from None
    return found


def _check(found: CompactReference) -> None:
    """Raise ValueError for arrays that do not belong together, or hold no probabilities."""
    windows, tokens = found.ids.shape
    if not windows or not tokens:
        raise ValueError("it has no tokens")
    rows, k = tokens - 1 - unscored(found.ids[0]), found.top.shape[-1]
    shapes = [found.top.shape, found.log_p.shape, found.tail.shape, found.log_next.shape]
    if rows < 1 or k < 1 or shapes != [(windows, rows, k)] * 2 + [(windows, rows)] * 2:
        raise ValueError("it contains arrays of different lengths")
    if min(found.ids.min(), found.top.min()) < 0:
        raise ValueError("it contains a token below 0")
    if not all(np.isfinite(part).all() for part in (found.log_p, found.tail, found.log_next)):
        raise ValueError("it contains a probability that is not finite")

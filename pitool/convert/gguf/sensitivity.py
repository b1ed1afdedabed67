"""How much the model's answers suffer from an error in a tensor: measured, a group at a time.

A group of tensors is rounded coarsely while all others stay exact; the divergence of the answers
over the group's relative error is its sensitivity.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pitool.catalog.tensor_types import QUANTISATIONS, TENSOR_TYPES, Quantisation
from pitool.convert.gguf.losses import Losses
from pitool.convert.gguf.quantise import quantise
from pitool.quality.divergence import score, summarise, unscored

# Up to so many tensors are measured one by one; of a larger model those of one role together.
MOST_ALONE = 48
PROBES = ("Q3_K", "Q4_0")
FLOOR = 1e-9
# So many windows of the calibration are answered for each group.
WINDOWS = 4


class Answers(Protocol):
    """The part of an engine that is measured."""

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Return the logits after each token."""


Open = Callable[[Path, int], AbstractContextManager[Answers]]


def groups(names: Sequence[str]) -> list[list[str]]:
    """Return the tensors that are measured together."""
    if len(names) <= MOST_ALONE:
        return [[name] for name in names]
    by_role: dict[str, list[str]] = {}
    for name in names:
        by_role.setdefault(re.sub(r"^blk\.\d+\.", "", name), []).append(name)
    return list(by_role.values())


def measure(
    exact: Path,
    kind: Quantisation,
    losses: Losses,
    windows: Sequence[Sequence[int]],
    open_engine: Open,
    folder: Path,
    threads: int,
    on_group: Callable[[int], None],
) -> dict[str, float]:
    """Return the sensitivity of each tensor: KL divergence for each unit of relative error.

    ``exact`` is the GGUF in the float type ``kind``; degraded copies lie in ``folder`` for a
    moment, one at a time.
    """
    base = _logits(open_engine, exact, windows)
    found: dict[str, float] = {}
    scratch = folder / "degraded.gguf"
    for group in groups(list(losses)):
        probes = {name: next(p for p in PROBES if p in losses[name]) for name in group}
        types = {name: TENSOR_TYPES[probes.get(name, kind.name)] for name in losses}
        try:
            quantise(exact, scratch, QUANTISATIONS["Q4_0"], threads, types=types)
            other = _logits(open_engine, scratch, windows)
        finally:
            scratch.unlink(missing_ok=True)
        kl = summarise(
            [
                score(b, o, ids, unscored(ids))
                for b, o, ids in zip(base, other, windows, strict=True)
            ]
        ).mean_kl
        error = sum(losses[name][probes[name]] for name in group)
        found |= dict.fromkeys(group, max(kl, FLOOR) / max(error, FLOOR))
        on_group(1)
    return found


def _logits(
    open_engine: Open, path: Path, windows: Sequence[Sequence[int]]
) -> list[NDArray[np.float32]]:
    with open_engine(path, max(map(len, windows))) as engine:
        return [engine.logits(window) for window in windows]

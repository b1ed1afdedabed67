"""What types of the KV cache cost: an artifact against itself with keys and values in f32.

Measured with the runtime itself. Keys and values are measured apart, because which of them bears
less differs by model; what a pair costs is measured for the one that is advised. f16 is measured as
well: llama.cpp rounds activations, so that any change of the cache moves some of them, and what is
left beside f16 is the cache's own. Needs no host package: a board does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pitool.catalog import manifest
from pitool.catalog.bundles import Bundle, Runnable
from pitool.catalog.kv_types import USUAL, CacheTypes
from pitool.catalog.manifest import Artifact, CacheQuality
from pitool.engine.base import Engine
from pitool.errors import BadInput, DoesNotFit
from pitool.planning.caches import SMALLER, advised
from pitool.quality.comparison import scored_rows
from pitool.quality.divergence import WINDOW, score_rows, summarise, unscored
from pitool.quality.kinds import kind_windows
from pitool.report.progress import Progress

# Tokens that are read of each: chat, prose and code; every second is scored.
EACH = 1024
EXACT = "f32"

OpenWithCache = Callable[[Runnable, int, CacheTypes], AbstractContextManager[Engine]]
"""Loads an artifact with room for the logits of so many tokens, and types of the KV cache."""


def measure_caches(
    bundle: Bundle, runnable: Runnable, open_artifact: OpenWithCache, progress: Progress
) -> tuple[CacheQuality, ...]:
    """Return what each type costs keys and values of an artifact, and keep it in its bundle.

    Types that its heads are too short for are left out. BadInput for a model without such a cache.
    """
    artifact = runnable.artifact
    assert artifact  # it is one of a bundle
    alone = [CacheTypes(USUAL, USUAL), *(CacheTypes(name, USUAL) for name in SMALLER)]
    alone += [CacheTypes(USUAL, name) for name in SMALLER]
    progress.stage(f"measuring KV caches of {runnable.quantisation}", len(alone) + 2)
    with open_artifact(runnable, WINDOW, CacheTypes(EXACT, EXACT)) as engine:
        windows = [w for kind in kind_windows(engine, EACH, WINDOW).values() for w in kind]
        base = _logits(engine, windows)
    progress.advance(1)
    found: list[CacheQuality] = []

    def measure(pairs: Iterable[CacheTypes]) -> None:
        for types in pairs:
            try:
                with open_artifact(runnable, WINDOW, types) as engine:
                    found.append(_quality(types, base, _logits(engine, windows), windows))
            except DoesNotFit:  # the runtime's word for rows that are no multiple of the block
                continue
            finally:
                progress.advance(1)

    measure(alone)
    if len(found) < 2:
        raise BadInput(
            f"{runnable.name} has no KV cache that a smaller type can hold", "use it as it is"
        )
    pair = advised(found, artifact.certificate)
    known = {(each.keys, each.values) for each in found}
    measure([pair] if pair and (pair.keys, pair.values) not in known else [])
    _keep(bundle, artifact, tuple(found))
    return tuple(found)


def _logits(engine: Engine, windows: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
    """Return the scored rows of each window."""
    return [engine.logits(ids)[scored_rows(ids)].copy() for ids in windows]


def _quality(
    types: CacheTypes,
    base: Sequence[NDArray[np.float32]],
    other: Sequence[NDArray[np.float32]],
    windows: Sequence[Sequence[int]],
) -> CacheQuality:
    found = summarise(
        [
            score_rows(b, o, ids[unscored(ids) + 1 :])
            for b, o, ids in zip(base, other, windows, strict=True)
        ]
    )
    return CacheQuality(types.keys, types.values, found.tokens, found.mean_kl, found.top1)


def _keep(bundle: Bundle, artifact: Artifact, found: tuple[CacheQuality, ...]) -> None:
    """Write what was measured into the manifest."""
    now = manifest.read(bundle.path)
    changed = tuple(
        replace(each, caches=found) if each.quantisation == artifact.quantisation else each
        for each in now.artifacts
    )
    manifest.write(bundle.path, replace(now, artifacts=changed))

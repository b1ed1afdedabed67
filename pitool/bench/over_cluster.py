"""What a benchmark of a model over a cluster is done with: its engine, and nothing of this board.

What is known of this machine alone, its plan, its predicted speed, its memory's bandwidth, holds
for none of it, and it teaches nothing of this machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pitool.bench import artifact
from pitool.bench.artifact import MeasuredArtifact
from pitool.bench.session import KillableEngine, OnFraction, Tools, unchecked
from pitool.catalog.bundles import Runnable
from pitool.cluster import loading
from pitool.cluster.members import find_cluster
from pitool.engine.base import Settings


def cluster_tools(name: str, say: Callable[[str], object], *, force: bool) -> Tools:
    """Return the tools; ``say`` hears how the model is split, ``force`` loads what does not fit."""
    cluster = find_cluster(name)
    boards = ", ".join(member.title for member in cluster.members)

    def load(runnable: Runnable, settings: Settings, on_fraction: OnFraction) -> KillableEngine:
        return loading.start(name, runnable, settings, on_fraction, force=force, say=say)

    def describe(runnable: Runnable, settings: Settings, pid: int) -> MeasuredArtifact:
        known = artifact.describe(runnable, settings, pid)
        return replace(
            known,
            board=f"cluster {name}: {boards}",
            planned_memory=None,
            speed=None,
            streamed_bytes=None,
            read_gbs=None,
        )

    return Tools(load=load, check=unchecked, describe=describe, learn=lambda *_: None)

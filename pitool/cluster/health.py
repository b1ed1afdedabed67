"""How the boards of a cluster are while a model runs on them, and what fits them together."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from pitool.catalog.manifest import Artifact
from pitool.cluster import status
from pitool.cluster.connection import at_once, find_way
from pitool.cluster.members import Cluster, Member
from pitool.cluster.status import Status
from pitool.device import memory
from pitool.device.forecast import Forecast
from pitool.errors import PitoolError

# A list of models asks for every row; the boards are looked at no more often than this.
AGE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class BoardHealth:
    """A board by its name; ``status`` None where it does not answer."""

    title: str
    status: Status | None


def look(cluster: Cluster) -> list[BoardHealth]:
    """Return how each board is now; waits for the slowest."""
    return at_once(_look, cluster.members) if cluster.members else []


def _look(member: Member) -> BoardHealth:
    try:
        way = find_way(member)
        return BoardHealth(member.title, status.fetch(way.host, way.status_port))
    except (PitoolError, OSError, ValueError):
        return BoardHealth(member.title, None)


class ClusterJudge:
    """Says what an artifact needs beside what all boards have; asks them in a thread of its own.

    Until they have answered, what is available is unknown.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._room: int | None = None
        self._asked = 0.0
        self._ask()

    def __call__(self, artifact: Artifact) -> Forecast:
        """Return the verdict on an artifact, by its manifest alone."""
        if time.monotonic() - self._asked > AGE_SECONDS:
            self._ask()
        needed = sum(line.bytes for line in artifact.memory) or None
        return Forecast(needed, self._room, None, where=f"on {self._cluster.name}")

    def _ask(self) -> None:
        self._asked = time.monotonic()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        rooms = [board.status.room or 0 for board in look(self._cluster) if board.status]
        here = (memory.available() or 0) if self._cluster.here else 0
        self._room = sum(rooms) + here or None

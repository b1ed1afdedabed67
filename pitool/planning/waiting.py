"""How long a prompt of so many tokens waits: read anew, and read before (``pitool prefill``).

Reading it anew is the prefill's time. Of one that was read before, the saved prefill is read from
what the bundle lies on (``recipes/storage.toml``); where it is in the page cache, it takes less.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from pitool.planning.alternatives import storages
from pitool.planning.formats import FORMATS
from pitool.planning.planner import Planner, Row
from pitool.planning.speed import Estimate


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """Of an artifact on a board: ``seconds`` to read a prompt, from the fastest to the slowest.

    ``saved_bytes``: of the prompt that was read before; ``saved_seconds``: to read these, by
    medium.
    """

    quantisation: str
    place: str
    board: str
    tokens: int
    seconds: float
    fastest: float
    slowest: float
    saved_bytes: int
    saved_seconds: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return every number."""
        return asdict(self)


def waiting(planner: Planner, row: Row, tokens: int) -> Iterator[Waiting]:
    """Yield how long a prompt waits with an artifact on each board of its place."""
    form, shape = FORMATS[row.artifact.format], planner.model.shape
    size = form.state_bytes(shape, row.artifact, tokens)
    for found in row.artifact.estimates if row.loads else ():
        seconds = form.prompt_seconds(shape, row.artifact, row.place, found.board, tokens)
        storage = storages()[row.place.boards[found.board].soc]
        yield Waiting(
            row.quantisation,
            row.place.name,
            found.board,
            tokens,
            seconds,
            *_range(found, seconds),
            size,
            storage.seconds(size),
        )


def _range(found: Estimate, seconds: float) -> tuple[float, float]:
    """Return the shortest and the longest time to expect."""
    slowest, fastest = found.prefill_range
    return seconds * found.prefill / fastest, seconds * found.prefill / slowest

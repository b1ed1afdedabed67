"""What the session is doing, as it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from pitool.catalog.bundles import Runnable
from pitool.engine.base import ModelInfo, Timings

WhenFull = Literal["drop", "stop"]
"""What happens when the context is full: the oldest turns are left out, or the answer ends."""


class Phase(Enum):
    """What the session is doing; the value is how it is called on screen."""

    UNLOADED = "not loaded"
    LOADING = "loading"
    READY = "ready"
    READING = "reading"
    ANSWERING = "answering"
    MEASURING = "measuring"


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that is shown of the engine; replaced as a whole, so always consistent.

    ``runnable``: what is loaded or would be for the next question; ``progress``: fraction of the
    load; ``timings``: of the running or last answer; ``rate_now``: tokens/s of the last second;
    ``memory``: bytes of the worker, ``planned`` of the plan; ``dropped``: oldest turns that the
    model does not see any more.
    """

    phase: Phase = Phase.UNLOADED
    runnable: Runnable | None = None
    info: ModelInfo | None = None
    progress: float = 0.0
    timings: Timings | None = None
    memory: int | None = None
    planned: int | None = None
    rate_now: float = 0.0
    dropped: int = 0
    when_full: WhenFull = "drop"

    @property
    def busy(self) -> bool:
        """Whether there is something that ``stop`` would end."""
        return self.phase not in {Phase.UNLOADED, Phase.READY}

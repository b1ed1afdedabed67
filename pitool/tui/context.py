"""What the screens are given: the session, and everything they know of the machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pitool.catalog.bundles import Runnable
from pitool.catalog.manifest import Artifact
from pitool.chat.commands import Bundles
from pitool.chat.session import Session
from pitool.tui.screens import ScreenEntry

if TYPE_CHECKING:
    from pitool.bench.progress import BenchRunner
    from pitool.chat.compare import Comparison
    from pitool.chat.library import Library
    from pitool.cluster.health import BoardHealth
    from pitool.device.forecast import Forecast
    from pitool.device.sensor_history import SensorHistory
    from pitool.pull.market import Market

Judge = Callable[[Artifact], "Forecast"]
"""Says within a moment what an artifact needs here; see ``pitool.device.forecast``."""


@dataclass(frozen=True, slots=True)
class Context:
    """What all screens share; None: that is not there, and a screen that needs it cannot be opened.

    ``comparison``, ``bench`` and ``market`` make what runs those; ``tuned`` says what a runnable
    was tuned to, empty where it was not; ``screens``: those that open from everywhere;
    ``stored``: whether conversations are; ``last_model``: what was loaded last; ``resume`` opens
    the conversation that was used last; ``boards`` looks at those that hold the model together, in
    a thread, for it waits for the network.
    """

    session: Session
    bundles: Bundles
    screens: Sequence[ScreenEntry]
    judge: Judge | None
    sensors: SensorHistory | None
    tuned: Callable[[Runnable], str]
    stored: bool
    library: Callable[[], Library]
    comparison: Callable[[], Comparison]
    bench: Callable[[], BenchRunner]
    last_model: Callable[[], Runnable | None]
    resume: Callable[[], None]
    market: Callable[[], Market] | None = None
    boards: Callable[[], list[BoardHealth]] | None = None

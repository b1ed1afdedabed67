"""The benchmark of the demonstration: a scripted engine on a board with invented figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from pitool.bench.artifact import MeasuredArtifact
from pitool.bench.history import FILE_NAME, History
from pitool.bench.session import Tools, unchecked
from pitool.catalog.bundles import Runnable
from pitool.device.activity import Look
from pitool.device.sensors import Reading, Throttled
from pitool.engine.base import Settings
from pitool.engine.scripted import Scripted

PEAK = 1_198_000_000
HOT = Throttled(0b0100 | 0b0100 << 16)


def tools(folder: Path, *, real_time: bool = False) -> Tools:
    """Return tools that keep their history below ``folder``."""

    def load(
        runnable: Runnable, settings: Settings, on_fraction: Callable[[float], None]
    ) -> Scripted:
        on_fraction(1.0)
        return Scripted(
            prefill_rate=84.3,
            decode_rate=7.9,
            real_time=real_time,
            name=runnable.name,
            settings=settings,
        )

    runs = count(1)
    return Tools(
        load,
        check=unchecked,
        settings=lambda _, context: Settings(context, decode_threads=4, prefill_threads=4),
        look=lambda _: _looker(count()),
        describe=_describe,
        learn=lambda *_: None,
        history=lambda: History(folder / FILE_NAME),
        name=lambda: f"demo-{next(runs)}",
    )


def _looker(numbers: Iterator[int]) -> Callable[[], Look]:
    """Return looks a minute apart, in the last of which the board is too hot."""

    def look() -> Look:
        number = next(numbers)
        hot = number >= 2
        return Look(
            60.0 * number,
            Reading(84.0 if hot else 60.0, 1500.0, HOT if hot else Throttled(0)),
            240.0 * number,
            239.0 * number,
            0,
            0,
        )

    return look


def _describe(runnable: Runnable, _settings: Settings, _pid: int) -> MeasuredArtifact:
    artifact = runnable.artifact
    return MeasuredArtifact(
        file=runnable.entry,
        bundle=runnable.name,
        quantisation=runnable.quantisation,
        planned_memory=runnable.planned,
        peak_memory=PEAK,
        versions={"pitool": "0.1.0"},
        board="Raspberry Pi 5",
        cpu="Cortex-A76",
        speed=artifact.speed[-1] if artifact else None,
    )

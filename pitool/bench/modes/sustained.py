"""Decoding for minutes: the speed of a board when it is warm, next to its speed at first."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pitool.bench.artifact import title_of
from pitool.bench.events import Doing, Figures
from pitool.bench.history import Document
from pitool.bench.modes.base import Measure, Mode, OpenEngine
from pitool.bench.run import random_tokens
from pitool.catalog.bundles import Runnable
from pitool.device import activity
from pitool.device.activity import Look
from pitool.engine.base import Engine, Settings
from pitool.errors import UsageError
from pitool.report.blocks import chart
from pitool.report.numbers import format_celsius, format_rate, format_seconds, format_share

CHUNK_SECONDS = 2.0
FIRST_CHUNK = 4
_UNITS = {"s": 1, "m": 60, "h": 3600, "": 1}
LONGEST = 24 * 3600


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of ``tokens`` that took ``took`` seconds, and a look at the board after it.

    ``seconds``: since the start, at the end of the stretch.
    """

    seconds: float
    tokens: int
    took: float
    look: Look

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens / self.took


@dataclass(frozen=True, slots=True)
class Sustained:
    """Tokens over seconds of the first and last minute (or quarter, when shorter) and overall.

    ``hottest`` in °C and ``throttled`` flags seen on the way, None and empty where unknown.
    """

    first: float
    last: float
    overall: float
    hottest: float | None
    throttled: tuple[str, ...]

    @property
    def kept(self) -> float:
        """The share of the first minute's speed that is left in the last."""
        return self.last / self.first


def duration(text: str) -> float:
    """Return the seconds of ``90``, ``45s``, ``10m`` or ``1h``; UsageError for anything else."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)([smh]?)", text.strip().lower())
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not 0 < seconds <= LONGEST:
        raise UsageError(f"{text!r} is not a duration", "write it as 90s, 10m or 1h")
    return seconds


def sustain(
    engine: Engine,
    seconds: float,
    look: Callable[[], Look],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Stretch]:
    """Yield a point about every two seconds of decoding; the board is read only in between.

    A token is decoded beforehand, so that no weight is read from disk later. The context is
    emptied when it is full, and so that every stretch sees the same depths.
    """
    chunk, filled = FIRST_CHUNK, 0
    room = engine.info.settings.context
    ids = random_tokens(engine)
    engine.clear()
    engine.time_forward(ids(1), one_by_one=True)
    engine.clear()
    start = clock()
    while clock() - start < seconds:
        if filled + chunk > room:
            engine.clear()
            filled = 0
        took = max(engine.time_forward(ids(chunk), one_by_one=True), 1e-9)
        filled += chunk
        point = Stretch(clock() - start, chunk, took, look())
        yield point
        chunk = max(1, min(round(point.rate * CHUNK_SECONDS), room))


def summarise(points: list[Stretch]) -> Sustained:
    """Return what the points say; there is at least one."""
    whole = points[-1].seconds
    window = min(60.0, whole / 4)
    first = [p for p in points if p.seconds <= window] or points[:1]
    last = [p for p in points if p.seconds > whole - window] or points[-1:]
    temperatures = [
        p.look.reading.temperature_c for p in points if p.look.reading.temperature_c is not None
    ]
    flags = [f for p in points if p.look.reading.throttled for f in p.look.reading.throttled.now]
    return Sustained(
        first=_rate(first),
        last=_rate(last),
        overall=_rate(points),
        hottest=max(temperatures, default=None),
        throttled=tuple(dict.fromkeys(flags)),
    )


def _rate(points: list[Stretch]) -> float:
    return sum(p.tokens for p in points) / sum(p.took for p in points)


# -- the mode ------------------------------------------------------------------------------


def _prepare(options: Mapping[str, Any]) -> Measure:
    seconds = duration(options["sustained"])

    def measure(
        runnable: Runnable, settings: Settings, open_engine: OpenEngine, document: Document
    ) -> Iterator[Doing | Figures]:
        points: list[Stretch] = []
        interruption: KeyboardInterrupt | None = None
        with open_engine(runnable, settings) as engine:
            try:
                for point in sustain(engine, seconds, activity.looker(engine.pid)):
                    points.append(point)
                    yield Doing(_line(point))
            except KeyboardInterrupt as error:
                interruption = error
        if points:
            yield _figures(points, title_of(runnable), document)
        if interruption:
            raise interruption

    return measure


def _line(point: Stretch) -> str:
    heat = point.look.reading.temperature_c
    hot = f"  {format_celsius(heat)}" if heat is not None else ""
    return f"{format_seconds(point.seconds):>8}  {format_rate(point.rate, 2):>12}{hot}"


def _figures(points: list[Stretch], title: str, document: Document) -> Figures:
    summary = summarise(points)
    shown = [{**asdict(point), "rate": point.rate} for point in points]
    document |= {**asdict(summary), "kept": summary.kept, "points": shown}
    lines = (f"{title}, decode tokens/s over time:", *_chart(document), _words(document))
    return Figures(lines)


def _chart(document: Document) -> list[str]:
    points = [(point["seconds"], point["rate"]) for point in document["points"]]
    first, last = (format_seconds(points[i][0]) for i in (0, -1))
    return chart(points, ends=(first, last))


def _words(document: Document) -> str:
    d = document
    hot = f", hottest {format_celsius(d['hottest'])}" if d["hottest"] is not None else ""
    flags = f", {', '.join(d['throttled'])}" if d["throttled"] else ""
    took = format_seconds(d["points"][-1]["seconds"])
    first, last, mean = (format_rate(d[key], 2) for key in ("first", "last", "overall"))
    kept = format_share(d["kept"])
    return f"{took}: first {first}, last {last} ({kept}), mean {mean}{hot}{flags}"


MODE = Mode(
    prepare=_prepare,
    words=_words,
    chart=_chart,
)

"""What a token costs: watts while idle and while decoding, joules per token.

A meter is read while the model works, so this is a pass of its own: the timed repetitions are
over before it begins.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pitool.bench.artifact import title_of
from pitool.bench.events import Figures
from pitool.bench.history import Document
from pitool.bench.modes.base import Measure, Mode, OpenEngine
from pitool.bench.run import random_tokens
from pitool.catalog.bundles import Runnable
from pitool.device import power
from pitool.device.power import Meter
from pitool.engine.base import Engine, Settings
from pitool.errors import PitoolError
from pitool.report.numbers import format_rate, format_significant, format_watts

IDLE_SECONDS = 5.0
DECODE_SECONDS = 10.0
INTERVAL = 0.5
CHUNK = 16


@dataclass(frozen=True, slots=True)
class Energy:
    """``source`` of the watts; medians idle and in decode; the rate of decode meanwhile.

    ``joules_per_token`` is of the whole board while it decodes, ``added_joules_per_token`` of
    what decoding adds to idling.
    """

    source: str
    idle_watts: float
    decode_watts: float
    tokens_per_second: float

    @property
    def joules_per_token(self) -> float:
        """Watts in decode over tokens per second."""
        return self.decode_watts / self.tokens_per_second

    @property
    def added_joules_per_token(self) -> float:
        """Watts above idle over tokens per second."""
        return max(0.0, self.decode_watts - self.idle_watts) / self.tokens_per_second


def measure_energy(
    engine: Engine,
    meter: Meter,
    idle_seconds: float = IDLE_SECONDS,
    decode_seconds: float = DECODE_SECONDS,
    interval: float = INTERVAL,
) -> Energy:
    """Return the energy of decoding at a short context; PitoolError when the meter falls silent."""
    idle = _sampled(meter, interval, lambda: time.sleep(idle_seconds))
    rate = 0.0

    def decode() -> None:
        nonlocal rate
        rate = _decode(engine, decode_seconds)

    busy = _sampled(meter, interval, decode)
    return Energy(meter.source, idle, busy, rate)


def _decode(engine: Engine, seconds: float) -> float:
    """Decode for a while; return the tokens per second."""
    tokens, spent, end = 0, 0.0, time.monotonic() + seconds
    ids = random_tokens(engine)(CHUNK)
    room = engine.info.settings.context // CHUNK
    count = 0
    while tokens == 0 or time.monotonic() < end:
        if count % max(room, 1) == 0:
            engine.clear()
        spent += engine.time_forward(ids, one_by_one=True)
        tokens, count = tokens + CHUNK, count + 1
    return tokens / spent if spent > 0 else 0.0


def _sampled(meter: Meter, interval: float, work: Callable[[], None]) -> float:
    """Return the median watts while ``work`` runs."""
    samples: list[float] = []
    ended = threading.Event()

    def sample() -> None:
        while True:
            watts = meter.read()
            if watts is not None:
                samples.append(watts)
            if ended.wait(interval):
                return

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        work()
    finally:
        ended.set()
        thread.join()
    if not samples:
        raise PitoolError(f"{meter.source} returned no watts", "check the meter")
    return statistics.median(samples)


# -- the mode ------------------------------------------------------------------------------


def _prepare(options: Mapping[str, Any]) -> Measure:
    line = options["power_meter"]
    meter = power.command(line) if line is not None else power.onboard()

    def measure(
        runnable: Runnable, settings: Settings, open_engine: OpenEngine, document: Document
    ) -> Iterator[Figures]:
        with open_engine(runnable, settings) as engine:
            found = measure_energy(engine, meter)
        document |= {
            **asdict(found),
            "joules_per_token": found.joules_per_token,
            "added_joules_per_token": found.added_joules_per_token,
        }
        yield Figures(tuple(_lines(found, title_of(runnable))))

    return measure


def _lines(found: Energy, title: str) -> Iterator[str]:
    yield (
        f"{title}: idle {format_watts(found.idle_watts)},"
        f" decode {format_watts(found.decode_watts)} at {format_rate(found.tokens_per_second, 2)}"
    )
    whole, added = map(format_significant, (found.joules_per_token, found.added_joules_per_token))
    yield f"{whole} J per token, {added} J of it above idle; measured at: {found.source}"


def _words(document: Document) -> str:
    d = document
    return (
        f"idle {format_watts(d['idle_watts'])}, decode {format_watts(d['decode_watts'])} at"
        f" {format_rate(d['tokens_per_second'], 2)},"
        f" {format_significant(d['joules_per_token'])} J per token"
    )


MODE = Mode(
    prepare=_prepare,
    words=_words,
)

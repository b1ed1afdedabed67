"""Lines of figures at every width."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pitool.catalog.bundles import Runnable
from pitool.chat.status import Phase, Status
from pitool.device.monitor import Sample
from pitool.engine.base import Timings
from pitool.engine.scripted import Scripted
from pitool.tui.widgets.gauge import gauge
from pitool.tui.widgets.header import sensors_line
from pitool.tui.widgets.stats import room_line, speed_line

DONE = Status(
    Phase.READY,
    info=Scripted().info,
    timings=Timings(200, 0, 200, 1.6207, 1.65, 113, 2.456),
    memory=812_000_000,
)


def test_speeds_of_an_answer() -> None:
    assert speed_line(DONE, 78).plain == "decode 45.6 t/s · TTFT 1.65 s · prefill 123.4 t/s"
    running = replace(DONE, phase=Phase.ANSWERING, rate_now=47.21)
    assert speed_line(running, 78).plain.startswith("decode 47.2 t/s (mean 45.6) · TTFT 1.65 s")
    again = replace(DONE, timings=replace(DONE.timings, reused_tokens=150))  # type: ignore[type-var]
    assert speed_line(again, 78).plain.endswith("· reused 150/200")


def test_context_and_memory_at_80_columns() -> None:
    assert room_line(DONE, 78).plain == (
        "context 312/2048 ━━╸───────────── · when full: drop · memory 812 MB"
    )
    full = replace(DONE, planned=900_000_000, when_full="stop")
    assert room_line(full, 78).plain.endswith("· when full: stop · memory 812 of 900 MB")
    dropped = replace(DONE, dropped=3)
    assert "when full: drop, 3 turns dropped" in room_line(dropped, 120).plain


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("width", [30, 40, 60, 80, 120, 200])
def test_lines_never_exceed_the_width(phase: Phase, width: int, runnable: Runnable) -> None:
    status = Status(phase, runnable, DONE.info, 0.3, DONE.timings, DONE.memory)
    assert speed_line(status, width).cell_length <= width
    assert room_line(status, width).cell_length <= width


def test_reading_shows_progress_and_time_left() -> None:
    reading = Status(Phase.READING, timings=Timings(512, 0, 128, 2.0))
    text = speed_line(reading, 80).plain
    assert text.startswith("prompt 128/512 ━━━━────")
    assert "prefill 64.0 t/s" in text
    assert "left a few seconds" in text


def sample(celsius: float | None, mhz: float | None, flags: tuple[str, ...] | None) -> Sample:
    return Sample(0.0, None, None, None, None, celsius, mhz, flags, flags)


def test_sensors() -> None:
    assert sensors_line(None).plain == ""
    assert sensors_line(sample(51.4, 2400.0, ())).plain == "51 °C 2.4 GHz"
    assert sensors_line(sample(None, None, None)).plain == ""
    hot = sensors_line(sample(84.0, 1500.0, ("throttled",)))
    assert hot.plain == " throttled  84 °C 1.5 GHz"


@pytest.mark.parametrize(
    ("fraction", "bar"),
    [(-1, "────"), (0, "────"), (0.5, "━━──"), (0.625, "━━╸─"), (1, "━━━━"), (9, "━━━━")],
)
def test_gauge(fraction: float, bar: str) -> None:
    assert gauge(fraction, 4).plain == bar

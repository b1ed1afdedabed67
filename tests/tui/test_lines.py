"""Lines of figures at every width."""

from __future__ import annotations

import pytest

from pitool.engine.base import Timings
from pitool.engine.scripted import Scripted
from pitool.spec.bundles import Runnable
from pitool.spec.manifest import Speed
from pitool.tui import figures
from pitool.tui.status import Phase, Status
from pitool.tui.widgets.gauge import gauge
from pitool.tui.widgets.stats import stats_line

DONE = Status(
    Phase.READY,
    info=Scripted().info,
    timings=Timings(200, 0, 200, 1.6207, 1.65, 113, 2.456),
    memory=812_000_000,
)


def test_stats_in_full() -> None:
    text = stats_line(DONE, 84).plain
    assert text == (
        "prefill 123.4 t/s · decode 45.6 t/s · TTFT 1.65 s · context 312/2048 · memory 812 MB"
    )


def test_stats_at_80_columns() -> None:
    text = stats_line(DONE, 78).plain
    assert text == "prefill 123.4 t/s · decode 45.6 t/s · TTFT 1.65 s · ctx 312/2048 · mem 812 MB"


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("width", [30, 40, 60, 80, 120, 200])
def test_lines_never_exceed_the_width(phase: Phase, width: int, runnable: Runnable) -> None:
    status = Status(phase, runnable, DONE.info, 0.3, DONE.timings, DONE.memory)
    line = stats_line(status, width)
    assert line.cell_length <= width


def test_reading_shows_progress_and_time_left() -> None:
    reading = Status(Phase.READING, timings=Timings(512, 0, 128, 2.0))
    text = stats_line(reading, 80).plain
    assert text.startswith("reading prompt 128/512 ━━━━────")
    assert "prefill 64.0 t/s" in text
    assert "left 6.00 s" in text


@pytest.mark.parametrize(
    ("fraction", "bar"),
    [(-1, "────"), (0, "────"), (0.5, "━━──"), (0.625, "━━╸─"), (1, "━━━━"), (9, "━━━━")],
)
def test_gauge(fraction: float, bar: str) -> None:
    assert gauge(fraction, 4).plain == bar


@pytest.mark.parametrize(
    ("value", "text"), [(0.309, "0.31 s"), (12.34, "12.3 s"), (125, "2:05"), (3599, "59:59")]
)
def test_seconds(value: float, text: str) -> None:
    assert figures.seconds(value) == text


def test_span_of_speeds() -> None:
    speeds = (Speed("a", 1, 8.14), Speed("b", 1, 12.4))
    assert figures.span(speeds) == "8.1–12.4"
    assert figures.span(speeds[:1]) == "8.1"
    assert figures.span(()) == "–"

"""The speed of each artifact and test over its runs, as bars in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime

from pitool.bench.rows import BenchRow, artifact_name, test_name
from pitool.report.blocks import chart, horizontal
from pitool.report.numbers import format_count, format_date, format_fixed
from pitool.report.text import wrap

# So many runs have a line each; more of them a column each, or less.
MOST_LINES = 12
WIDEST, HEIGHT = 60, 6
WHEN = 16  # columns of a date and a time
ONE_RUN = "a chart needs a second run with the same test: run pitool bench again"


def lines(rows: Sequence[BenchRow], width: int) -> Iterator[str]:
    """Yield the lines of all tests, each from its oldest run to its newest.

    ``width``: columns of the terminal. What was measured once is a figure and no chart.
    """
    groups: dict[tuple[str, str, int], list[BenchRow]] = {}
    for row in rows:
        key = (artifact_name(row), test_name(row), row["n_threads"])
        groups.setdefault(key, []).append(row)
    for key, found in groups.items():
        yield from _test(key, found, width)
    if groups and all(len(found) == 1 for found in groups.values()):
        yield from wrap(ONE_RUN, width)


def _test(key: tuple[str, str, int], found: Sequence[BenchRow], width: int) -> Iterator[str]:
    artifact, test, threads = key
    name = f"{artifact} {test}, {format_count(threads, 'thread')}"
    rates = [row["avg_ts"] for row in found]
    low, high = format_fixed(min(rates), 1), format_fixed(max(rates), 1)
    if len(found) == 1:
        yield from wrap(f"{name}: {low} t/s in 1 run, {_when(found[0])}", width, "  ")
        return
    span = low if low == high else f"{low} to {high}"
    yield from wrap(f"{name}: {span} t/s in {len(found)} runs; more is better", width, "  ")
    yield from (_bars if len(found) <= MOST_LINES else _columns)(found, width)
    yield ""


def _bars(found: Sequence[BenchRow], width: int) -> Iterator[str]:
    """Yield a line for each run: when it was, a bar from zero, and its figure."""
    rates = [row["avg_ts"] for row in found]
    figures = [format_fixed(rate, 1) for rate in rates]
    digits = max(map(len, figures))
    room = max(min(WIDEST, width - WHEN - digits - 6), 1)
    for row, rate, figure in zip(found, rates, figures, strict=True):
        bar = horizontal(rate, max(rates) or 1.0, room)
        yield f"  {_when(row):<{WHEN}}  {bar:<{room}}  {figure:>{digits}}"


def _columns(found: Sequence[BenchRow], width: int) -> Iterator[str]:
    """Yield a chart in which every run is equally wide; of very many the mean is drawn."""
    rates = [row["avg_ts"] for row in found]
    room = max(min(WIDEST, width - 10), 1)
    wide = max(1, room // len(rates))
    points = [(i + j / wide, rate) for i, rate in enumerate(rates) for j in range(wide)]
    ends = (format_date(found[0]["test_time"]), format_date(found[-1]["test_time"]))
    yield from chart(points, width=min(room, len(points)), height=HEIGHT, ends=ends)


def _when(row: BenchRow) -> str:
    """Return date and time of a run, here: ``2026-11-12 14:05``."""
    told = str(row["test_time"])
    with suppress(ValueError, OverflowError):
        return datetime.fromisoformat(told).astimezone().strftime("%Y-%m-%d %H:%M")
    return told[:WHEN]

"""``pitool monitor``: memory, temperature, clock and throttling, one line per interval."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from pitool.cli.ranges import FiniteRange, WholeRange

if TYPE_CHECKING:
    from pitool.device.monitor import Sample


@click.command("monitor")
@click.option("--interval", type=FiniteRange(0.5, 86400), default=2.0, show_default=True,
              metavar="S", help="Seconds between two lines.")  # fmt: skip
@click.option("-n", "--count", type=WholeRange(1), metavar="N", help="Stop after this many lines.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values with a header.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document per line.")
def command(interval: float, count: int | None, as_csv: bool, as_json: bool) -> None:
    """Show memory, CPU and sensors until stopped with Ctrl-C.

    \b
    Example:
      pitool monitor
      pitool monitor --interval 10 --csv > night.csv
    """
    from pitool.device import monitor
    from pitool.errors import UsageError

    if as_csv and as_json:
        raise UsageError("--csv and --json cannot be combined", "drop one of them")
    line: Callable[[Sample], str] = monitor.csv_line if as_csv else _json if as_json else _line
    if as_csv:
        click.echo(monitor.CSV_HEAD)
    try:
        for number, sample in enumerate(monitor.watch(interval), start=1):
            click.echo(line(sample))
            if number == count:
                return
    except KeyboardInterrupt:
        return  # this is how it is stopped


def _json(sample: Sample) -> str:
    return json.dumps(dataclasses.asdict(sample))


# What leaves first where a terminal is narrow: the clock, the load of the CPU, the temperature.
PRIORITIES = (0, 0, 0, 2, 1, 3, 0)


def _line(sample: Sample) -> str:
    """Return what fits the terminal; what is unknown is a dash."""
    from pitool.report import numbers
    from pitool.report.tables import fit_line
    from pitool.report.text import terminal_width

    def shown(value: float | None, form: Callable[[float], str]) -> str:
        return numbers.NONE if value is None else form(value)

    flags = sample.throttled_now
    state = numbers.NONE if flags is None else (", ".join(flags) or "not throttled")
    cells = (
        numbers.format_time_of_day(sample.time),
        f"free {shown(sample.available_bytes, numbers.format_bytes):>7}",
        f"model {shown(sample.worker_bytes, numbers.format_bytes):>7}",
        f"CPU {shown(sample.cpu, numbers.format_share):>4}",
        f"{shown(sample.temperature_c, numbers.format_celsius):>6}",
        f"{shown(sample.clock_mhz, numbers.format_megahertz):>8}",
        state,
    )
    return fit_line(cells, PRIORITIES, terminal_width())

"""What ``pitool bench`` measures besides tests: minutes of decoding, a cold start, energy."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pitool.bench.cold import Start
    from pitool.bench.sustained import Point
    from pitool.catalog.bundles import Runnable
    from pitool.engine.base import Settings

Part = dict[str, Any]
Mode = Callable[["Runnable", "Settings", dict[str, Any]], Iterator[Part]]
"""Yields parts of one JSON document as they are measured."""

CONTEXT = 512
# Above this share of the files in the page cache a start is not a cold one.
CACHED = 0.05


def chosen(options: dict[str, Any], output: str) -> Mode | None:
    """Return the mode that the flags ask for, None for tests; UsageError where flags clash."""
    from pitool.errors import UsageError

    wanted = [
        mode
        for mode, flag in (
            (sustained, options["sustained"] is not None),
            (cold, options["cold"]),
            (energy, options["energy"] or options["power_meter"] is not None),
        )
        if flag
    ]
    if len(wanted) > 1:
        raise UsageError("two kinds of measurement were asked for", "ask for one at a time")
    if wanted and (output not in ("table", "json") or options["card"]):
        flag = "--card" if options["card"] else f"-o {output}"
        raise UsageError(f"{flag} is for tests only", "leave it away, or take --json")
    return wanted[0] if wanted else None


def run(mode: Mode, subjects: list[Runnable], options: dict[str, Any]) -> None:
    """Measure each artifact and print what the mode has to say, or one JSON document."""
    from pitool.bench import modes
    from pitool.bench.history import open_history
    from pitool.device.settings import check_memory, settings_for
    from pitool.errors import Interrupted

    documents: list[Part] = []
    options["quiet"] = options["as_json"] or options["output"] == "json"
    name = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    try:
        with closing(open_history()) as kept:
            for runnable in subjects:
                settings = settings_for(runnable, CONTEXT)
                if not options["force"]:
                    check_memory(runnable, settings)
                document = modes.begun(mode.__name__, runnable, settings)
                try:
                    for part in mode(runnable, settings, options):
                        document |= part
                finally:
                    if modes.measured(document):
                        documents.append(document)
                        kept.keep(document, name)
    except KeyboardInterrupt:
        left = "what was measured is above and in the history" if documents else "run it again"
        raise Interrupted("stopped early", left) from None
    finally:
        if options["quiet"]:
            click.echo(json.dumps(documents, indent=2))


def _talk(options: dict[str, Any], line: str) -> None:
    if not options["quiet"]:
        click.echo(line)


def _title(runnable: Runnable) -> str:
    from pitool.bench.formats import title

    bundle = runnable.name if runnable.artifact else None
    return title(bundle, str(runnable.entry), runnable.quantisation)


def sustained(runnable: Runnable, settings: Settings, options: dict[str, Any]) -> Iterator[Part]:
    """Decode for minutes; Ctrl-C ends it early and keeps what was measured."""
    from pitool.bench.sustained import duration, sustain
    from pitool.cli.status import Status
    from pitool.device import activity
    from pitool.engine import worker

    seconds = duration(options["sustained"])
    status = Status()
    points: list[Point] = []
    with worker.start(runnable.format, runnable.entry, settings) as engine:
        try:
            for point in sustain(engine, seconds, activity.looker(engine.pid)):
                points.append(point)
                heat = point.look.reading.temperature_c
                hot = f"  {heat:.0f} °C" if heat is not None else ""
                status.show(f"{point.seconds:6.0f} s  {point.rate:8.2f} t/s{hot}")
        finally:
            status.clear()
            if points:
                yield _sum_up(points, _title(runnable), options)


def _sum_up(points: list[Point], title: str, options: dict[str, Any]) -> Part:
    """Draw and say what the points are."""
    from pitool.bench import modes
    from pitool.bench.sustained import summarise

    summary = summarise(points)
    shown = [{**asdict(p), "rate": p.rate} for p in points]
    part = {**asdict(summary), "kept": summary.kept, "points": shown}
    _talk(options, f"{title}, decode tokens/s over time:")
    for line in [*modes.curve(part), modes.words({"kind": "sustained", **part})]:
        _talk(options, line)
    return part


def cold(runnable: Runnable, settings: Settings, options: dict[str, Any]) -> Iterator[Part]:
    """Start twice, from a cold and a warm page cache."""
    from pitool.bench.cold import TTFT_PROMPTS, starts
    from pitool.device.settings import worker_bytes
    from pitool.engine import worker

    settings = replace(settings, context=max(TTFT_PROMPTS) + 1)
    files = [runnable.entry] if runnable.entry.is_file() else sorted(runnable.entry.glob("*"))
    known = runnable.artifact is not None or runnable.format == "gguf"
    planned = worker_bytes(runnable, settings) if known else None
    yield {"planned_memory": planned}
    _talk(options, _title(runnable))
    for name, start in starts(
        files, lambda: worker.start(runnable.format, runnable.entry, settings)
    ):
        _say_start(name, start, planned, options)
        yield {name: asdict(start)}


def _say_start(name: str, start: Start, planned: int | None, options: dict[str, Any]) -> None:
    from pitool.report.numbers import format_bytes

    share = "unknown" if start.cached_before is None else f"{start.cached_before:.0%}"
    ttft = ", ".join(f"{n}: {seconds:.2f} s" for n, seconds in start.ttft_seconds.items())
    _talk(options, f"{name}: {share} of it in the page cache, ready in {start.load_seconds:.2f} s")
    _talk(options, f"  TTFT by prompt tokens  {ttft}")
    if start.peak_memory is not None:
        beside = f", planned {format_bytes(planned)}" if planned else ""
        _talk(options, f"  peak memory  {format_bytes(start.peak_memory)}{beside}")
    if name == "cold" and start.cached_before is None:
        click.echo("this system cannot tell whether the page cache was emptied", err=True)
    elif name == "cold" and (start.cached_before or 0) > CACHED:
        click.echo("the page cache could not be emptied: the cold start was a warm one", err=True)


def energy(runnable: Runnable, settings: Settings, options: dict[str, Any]) -> Iterator[Part]:
    """Measure watts while idle and in decode."""
    from pitool.bench.energy import measure_energy
    from pitool.device import power
    from pitool.engine import worker

    line = options["power_meter"]
    meter = power.command(line) if line is not None else power.onboard()
    with worker.start(runnable.format, runnable.entry, settings) as engine:
        found = measure_energy(engine, meter)
    _talk(
        options,
        f"{_title(runnable)}: idle {found.idle_watts:.2f} W,"
        f" decode {found.decode_watts:.2f} W at {found.tokens_per_second:.2f} t/s\n"
        f"{found.joules_per_token:.3g} J per token, {found.added_joules_per_token:.3g} J of it"
        f" above idling; measured at: {found.source}",
    )
    yield {
        **asdict(found),
        "joules_per_token": found.joules_per_token,
        "added_joules_per_token": found.added_joules_per_token,
    }

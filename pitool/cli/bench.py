"""``pitool bench``: tokens per second of prefill and decode, as llama-bench measures them.

Reads flags and prints what ``bench.session`` tells; measures nothing.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pitool.cli import bench_history, bench_options
from pitool.cli.bench_options import OUTPUTS
from pitool.cli.name_lists import names_option
from pitool.cli.names import BundlePath, cluster_option
from pitool.cli.ranges import FiniteRange
from pitool.report.progress import Hosts, StatusLine, talk

if TYPE_CHECKING:
    from pitool.bench.events import Event, Finished, Judged, Repetition
    from pitool.bench.grid import Grid
    from pitool.bench.rows import BenchRow
    from pitool.catalog.bundles import Runnable

ARGUMENTS = "pitool.bench.arguments"
ALL, FIRST = "all", ""


class DefaultCommand(click.Group):
    """A group whose first command is meant where none is named: ``pitool bench BUNDLE``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the name of the first command before arguments that begin with none."""
        if not args or args[0] not in self.commands:
            args = [next(iter(self.commands)), *args]
        ctx.meta[ARGUMENTS] = args[1:]
        return super().parse_args(ctx, args)


command = DefaultCommand("bench", help="Measure tokens per second, memory and the board.")


@command.command("run")
@click.argument("bundles", nargs=-1, type=BundlePath())
@names_option("--quant", text="Artifacts, such as Q4_K_M,INT4 (default: all).")
@bench_options.grid_options
@click.option(
    "--cooldown",
    type=FiniteRange(0),
    metavar="°C",
    help="Let the board cool to this temperature before each test.",
)
@bench_options.mode_options
@click.option(
    "--card",
    type=click.Path(path_type=Path),
    help="Write a summary to share (.svg, .png or .md).",
)
@click.option("--hosts", metavar="LIST",
              help="Run on several boards over SSH: pi@a,pi@b, or a cluster.")  # fmt: skip
@cluster_option
@click.option("-o", "--output", type=click.Choice(OUTPUTS), default="table", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Same as -o json.")
@click.option("--force", is_flag=True, help="Load even if the memory seems too small.")
def run(**options: Any) -> None:
    """Measure tokens per second, with llama-bench's tests, statistics and flags.

    Each of BUNDLES is a folder, the name of a bundle in the default folder, or a GGUF file
    (default: the newest bundle). A LIST is 128,512 or a range: 1-4, 1-8+2, 1-8*2.

    \b
    Example:
      pitool bench sample-1gb --quant Q4_0 -p 128,512 -n 64 -r 3
      pitool bench sample-1gb -t 1-4 -d 0,1024 -o md
      pitool bench history
      pitool bench compare before.json after.json
    """
    from pitool.bench import card
    from pitool.bench.modes import find_mode
    from pitool.bench.session import Tools, bench, bench_mode, unchecked
    from pitool.errors import UsageError

    wanted = bench_options.grid(options)
    procedure = bench_options.procedure(options)
    output = "json" if options["as_json"] else options["output"]
    bundles, quant = options["bundles"] + options["models"], options["quant"]
    if options["card"]:
        card.check(options["card"])
    kind = bench_options.mode(options, output)
    tools = Tools(check=unchecked) if options["force"] else Tools()
    if options["cluster"] is not None:
        from pitool.bench.over_cluster import cluster_tools

        tools = cluster_tools(options["cluster"], talk, force=options["force"])
    if options["hosts"] is not None:
        if kind:
            raise UsageError(f"--hosts and --{kind} cannot be combined", "drop one of them")
        given = click.get_current_context().meta[ARGUMENTS]
        _bench_hosts(options["hosts"], given, output, options["card"])
    elif kind:
        measure = find_mode(kind).prepare(options)
        found = _find(bundles, quant or FIRST)
        _ModePrinter(as_json=output == "json").show(bench_mode(kind, measure, found, tools))
    else:
        printer = _TestPrinter(wanted, procedure.repetitions, output, warm_up=procedure.warm_up)
        events = bench(_find(bundles, quant or ALL), wanted, procedure, tools)
        printer.show(events, options["card"])


def _find(bundles: tuple[Path, ...], quant: str) -> list[Runnable]:
    """Return what to measure, and say what it is when the user did not.

    ``quant``: names with commas between, ``ALL`` artifacts of each bundle, or its ``FIRST``.
    """
    from pitool.catalog.bundles import newest
    from pitool.catalog.model_argument import artifact_names, find_runnable
    from pitool.catalog.tables import names_in

    if not bundles:
        bundles = (newest().path,)
        click.echo(f"measuring the newest bundle, {bundles[0].name}", err=True)
    found = []
    for bundle in bundles:
        for name in artifact_names(bundle) if quant == ALL else names_in(quant) or [FIRST]:
            found.append(find_runnable(bundle, name or None))
    return found


class _TestPrinter:
    """Prints tests as they end, and at the end what is to be said of them."""

    def __init__(self, wanted: Grid, repetitions: int, output: str, *, warm_up: bool) -> None:
        from pitool.bench.printers import PRINTERS

        self._repetitions, self._warm_up = repetitions, warm_up
        self._status = StatusLine()
        self._printer = PRINTERS[output](self._status.out, wanted.varied)
        self._rows: list[BenchRow] = []
        self._said: list[str] = []
        self._end: Finished | None = None

    def show(self, events: Generator[Event], card: Path | None) -> None:
        """Print everything; PitoolError at the end when an artifact could not be measured."""
        from pitool.bench.events import handle

        try:
            handle(events, self._take)
        finally:
            self._printer.end()
            self._status.clear()
        assert self._end  # the last event
        for line in (*self._said, *self._end.conditions):
            self._status.say(line)
        if card and self._rows:
            _write_card(card, self._rows)
        _raise(self._end, kept=bool(self._rows))

    def _take(self, event: Event) -> None:
        from pitool.bench import events
        from pitool.bench.artifact import title_of

        match event:
            case events.Remark(text, runnable):
                self._status.say(f"{title_of(runnable)}: {text}" if runnable else text)
            case events.Doing(text):
                self._status.show(text)
            case events.Loading(runnable):
                self._status.show(f"loading {title_of(runnable)}")
            case events.Repetition():
                self._status.show(self._state(event))
            case events.Measured(row):
                self._rows.append(row)
                self._printer.add(row)
            case events.Judged():
                self._said += _indented(event)
            case events.Failed(runnable, error):
                self._status.say(f"{title_of(runnable)}: {error.sentence}")
            case events.Finished():
                self._end = event

    def _state(self, event: Repetition) -> str:
        from pitool.bench.artifact import title_of

        done = len(event.result.samples_ns)
        begun = "warm-up" if self._warm_up else "starting"
        state = f"{done}/{self._repetitions}" if done else begun
        test = f"{title_of(event.runnable)} {event.result.workload.name}"
        return f"[{event.number}/{event.planned}] {test} {state}"


def _indented(judged: Judged) -> list[str]:
    return [judged.memory, *(f"  {line}" for line in judged.lines)]


def _raise(end: Finished, *, kept: bool) -> None:
    """Raise what is to be the command's exit code, if anything."""
    from pitool.errors import Interrupted

    if end.stopped:
        after = f"stopped after {end.done} of {end.planned} tests"
        raise Interrupted(
            after, "see pitool bench history for the results so far" if kept else "run it again"
        )
    if end.failures:
        raise end.failures[0]


class _ModePrinter:
    """Prints what a mode says as it measures, or one JSON document of everything at the end."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json, self._status = as_json, StatusLine()
        self._end: Finished | None = None

    def show(self, events: Generator[Event]) -> None:
        """Print everything."""
        from pitool.bench.events import handle
        from pitool.errors import Interrupted

        handle(events, self._take)
        self._status.clear()
        assert self._end  # the last event
        documents = self._end.documents
        if self._as_json:
            click.echo(json.dumps(documents, indent=2))
        if self._end.stopped:
            left = (
                "see pitool bench history for the results so far" if documents else "run it again"
            )
            raise Interrupted("stopped early", left)
        if self._end.failures:
            raise self._end.failures[0]

    def _take(self, event: Event) -> None:
        from pitool.bench import events
        from pitool.bench.artifact import title_of

        match event:
            case events.Doing(text):
                self._status.show(text)
            case events.Figures(lines, warnings):
                for line in () if self._as_json else lines:
                    self._status.out(line)
                for warning in warnings:
                    self._status.say(warning)
            case events.Failed(runnable, error):
                self._status.say(f"{title_of(runnable)}: {error.sentence}")
            case events.Finished():
                self._end = event


def _bench_hosts(hosts: str, arguments: Sequence[str], output: str, card: Path | None) -> None:
    """Bench the hosts and print what they gave; PitoolError after that when one gave nothing."""
    from pitool.bench import fleet
    from pitool.bench.printers import PRINTERS
    from pitool.cluster.members import hosts_of
    from pitool.errors import Interrupted, PitoolError

    names = hosts_of(name.strip() for name in hosts.split(","))
    with Hosts(names) as lines:
        answers = fleet.bench(
            names, fleet.without_output(arguments), lambda text: lines.say(*text.split(": ", 1))
        )
    rows = [row for answer in answers for row in answer.rows]
    printer = PRINTERS[output](click.echo, ())
    for row in rows:
        printer.add(row)
    printer.end()
    if card and rows:
        _write_card(card, rows)
    if any(answer.interrupted for answer in answers):
        raise Interrupted(
            "stopped before all hosts were done", "see above for the results of the others"
        )
    failed = [f"{answer.host} ({answer.problem})" for answer in answers if answer.problem]
    if failed:
        raise PitoolError(
            f"not measured: {', '.join(failed)}", "see above for the results of the others"
        )


def _write_card(path: Path, rows: Sequence[BenchRow]) -> None:
    from pitool.bench import card

    card.write(path, rows)
    talk(f"card: {path}")


command.add_command(bench_history.compare)
command.add_command(bench_history.history)

"""``pitool bench compare`` and ``pitool bench history``: what was measured before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import click

from pitool.bench.modes import MODES
from pitool.cli.bench_options import OUTPUTS
from pitool.cli.ranges import FiniteRange

if TYPE_CHECKING:
    from pitool.bench.comparison import BenchComparison
    from pitool.bench.history import Document
    from pitool.bench.printers import Printer
    from pitool.bench.rows import BenchRow


@click.command("compare")
@click.argument("old")
@click.argument("new")
@click.option(
    "--threshold",
    type=FiniteRange(0, 100),
    default=3.0,
    show_default=True,
    metavar="%",
    help="Least difference that counts.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def compare(old: str, new: str, threshold: float, as_json: bool) -> None:
    """Compare two benchmark runs, test by test. Exit code 1: a test became slower.

    OLD and NEW are files (-o json or jsonl), runs of the history, 'latest' or 'previous'.
    A test is 'slower' if its speed fell by --threshold percent and the 99% interval of the ratio
    is below 1.

    \b
    Example:
      pitool bench compare previous latest
      pitool bench compare before.json after.json --threshold 5
    """
    from pitool.bench import comparison
    from pitool.bench.history import read_rows
    from pitool.errors import BadInput, PitoolError

    found = comparison.compare(read_rows(old), read_rows(new), threshold / 100)
    if not found.lines:
        raise BadInput("the two runs have no test in common", "measure both with the same flags")
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        _show_comparison(found)
    if found.regressed:
        slower = [f"{line.model} {line.test}" for line in found.lines if line.verdict == "slower"]
        raise PitoolError(f"slower: {', '.join(slower)}", "see the ratios above")


def _show_comparison(found: BenchComparison) -> None:
    from pitool.report.numbers import compare_fixed, format_fixed
    from pitool.report.tables import Column, Section, show

    rows = []
    for line in found.lines:
        value, low, high = (
            format_fixed(n, 3) for n in (line.ratio.value, line.ratio.low, line.ratio.high)
        )
        rates = compare_fixed(line.old, line.new, digits=2)
        rows.append([line.model, line.test, *rates, f"{value} ({low}..{high})", line.verdict])
    columns = [
        Column("model", "left", "middle"),
        Column("test", "left"),
        Column("old"),
        Column("new"),
        Column("ratio (99% interval)"),
        Column("verdict", "left"),
    ]
    show([Section("", columns, rows)])
    for side, names in (("old", found.only_old), ("new", found.only_new)):
        for name in names:
            click.echo(f"only in the {side} run: {name}", err=True)
    if found.differs:
        click.echo(f"note that these differ: {', '.join(found.differs)}", err=True)


TESTS = "tests"
KINDS = (TESTS, *MODES)


@click.command("history")
@click.option("--bundle", metavar="NAME", help="Only this bundle.")
@click.option("--run", "name", metavar="RUN", help="Only this run (a name from the list).")
@click.option("--kind", type=click.Choice(KINDS), help="Only this kind of result (default: all).")
@click.option("--plot", is_flag=True, help="Plot the speed of each test over its runs.")
@click.option("-o", "--output", type=click.Choice(OUTPUTS), default="table", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Same as -o json.")
def history(
    bundle: str | None, name: str | None, kind: str | None, plot: bool, output: str, as_json: bool
) -> None:
    """List the results measured on this machine, oldest first, or export them.

    An export has results of one kind: tests, or those of --sustained, --cold or --energy with
    --kind.

    \b
    Example:
      pitool bench history --plot
      pitool bench history --kind sustained --plot
      pitool bench history -o csv > history.csv
      pitool bench history -o sql | sqlite3 history.sqlite
    """
    from pitool.bench.history import open_history
    from pitool.report.numbers import format_count

    output = "json" if as_json else output
    exported = output != "table"
    with closing(open_history()) as kept:
        tests = kept.rows(run=name, bundle=bundle) if kind in (None, TESTS) else []
        damaged = kept.damaged
        others: list[Document] = []
        if kind != TESTS and not (exported and kind is None):
            others = kept.documents(kind=kind, run=name, bundle=bundle)
            damaged += kept.damaged
    if damaged:
        click.echo(f"warning: {format_count(damaged, 'damaged result')} left out", err=True)
    if not (tests or others) and output != "json":
        click.echo("no such results yet: run pitool bench", err=True)
    elif exported:
        _export(tests if kind in (None, TESTS) else others, output, kind)
    elif plot:
        _plot(tests)
        _curves(others)
    else:
        _list(tests)
        _list_modes(others)


def _export(found: Sequence[BenchRow], output: str, kind: str | None) -> None:
    from pitool.bench.printers import PRINTERS, Sql
    from pitool.errors import UsageError

    tests = kind in (None, TESTS)
    if output == "md" and not tests:
        raise UsageError("only tests can be exported as Markdown", "use -o json, jsonl, csv or sql")
    if output == "sql" and not tests:
        printer: Printer = Sql(click.echo, (), f"pitool_{kind}")
    else:
        printer = PRINTERS[output](click.echo, ())
    for row in found:
        printer.add(row)
    printer.end()


def _list(rows: Sequence[BenchRow]) -> None:
    from pitool.bench.rows import artifact_name, rate, test_name
    from pitool.report.tables import Column, Section, show

    columns = [
        Column("run", "left"),
        Column("artifact", "left", "middle"),
        Column("test", "left"),
        Column("thr", priority=1),
        Column("t/s"),
    ]
    cells = [
        [row["run"], artifact_name(row), test_name(row), str(row["n_threads"]), rate(row)]
        for row in rows
    ]
    if cells:
        show([Section("", columns, cells)])


def _list_modes(documents: Sequence[Document]) -> None:
    from pitool.bench import modes
    from pitool.bench.modes.base import artifact_of
    from pitool.report.text import terminal_width, wrap

    for found in documents:
        click.echo(f"{found['run']:<15}  {artifact_of(found)}  {found['kind']}")
        for line in wrap(modes.words(found), terminal_width() - 17):
            click.echo(f"{'':<17}{line}")


def _curves(documents: Sequence[Document]) -> None:
    from pitool.bench import modes
    from pitool.bench.modes.base import artifact_of

    for found in documents:
        if lines := modes.chart(found):
            click.echo(f"{artifact_of(found)}  {found['run']}  {modes.words(found)}")
            click.echo("\n".join([*lines, ""]))


def _plot(rows: Sequence[BenchRow]) -> None:
    from pitool.bench import history_plot
    from pitool.report.text import terminal_width

    for line in history_plot.lines(rows, terminal_width()):
        click.echo(line)

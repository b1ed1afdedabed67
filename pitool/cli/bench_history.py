"""``pitool bench compare`` and ``pitool bench history``: what was measured before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pitool.bench.comparison import Comparison
    from pitool.bench.history import Row


@click.command("compare")
@click.argument("old")
@click.argument("new")
@click.option(
    "--threshold", type=click.FloatRange(0, 100), default=3.0, show_default=True, metavar="%"
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def compare(old: str, new: str, threshold: float, as_json: bool) -> None:
    """Compare two benches, test by test; exit code 1 when one became slower.

    OLD and NEW are files (-o json or jsonl), runs of the history, 'latest' or 'previous'.
    'slower' needs a difference of --threshold per cent and a 99 % interval that leaves 1 out.

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
        raise BadInput("the two have no test in common", "measure both with the same flags")
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        _show_comparison(found)
    if found.regressed:
        slower = [f"{line.model} {line.test}" for line in found.lines if line.verdict == "slower"]
        raise PitoolError(f"slower: {', '.join(slower)}", "see the table for by how much")


def _show_comparison(found: Comparison) -> None:
    head = f"{'model':<24}  {'test':<14}  {'old':>9}  {'new':>9}  {'ratio, 99 % interval':<21}"
    click.echo(f"{head}  verdict")
    for line in found.lines:
        ratio = line.ratio
        interval = f"{ratio.value:.3f} ({ratio.low:.3f}..{ratio.high:.3f})"
        click.echo(
            f"{line.model:<24}  {line.test:<14}  {line.old:9.2f}  {line.new:9.2f}"
            f"  {interval:<21}  {line.verdict}"
        )
    for side, names in (("old", found.only_old), ("new", found.only_new)):
        for name in names:
            click.echo(f"only in the {side} one: {name}", err=True)
    if found.differs:
        click.echo(f"beware, these differ: {', '.join(found.differs)}", err=True)


@click.command("history")
@click.option("--bundle", metavar="NAME", help="Only this bundle.")
@click.option("--plot", is_flag=True, help="Draw the rate of each test over its runs.")
@click.option("-o", "--output", type=click.Choice(("table", "json", "jsonl")), default="table")
@click.option("--json", "as_json", is_flag=True, help="The same as -o json.")
def history(bundle: str | None, plot: bool, output: str, as_json: bool) -> None:
    """List what was measured on this machine, oldest first.

    \b
    Example:
      pitool bench history --plot
      pitool bench history -o json > history.json
    """
    from pitool.bench.history import open_history

    with closing(open_history()) as kept:
        rows = kept.rows(bundle=bundle)
    if as_json or output == "json":
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif output == "jsonl":
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
    elif not rows:
        click.echo("nothing was measured yet: pitool bench", err=True)
    else:
        (_plot if plot else _list)(rows)


def _list(rows: Sequence[Row]) -> None:
    from pitool.bench.history import test_name

    click.echo(f"{'run':<15}  {'artifact':<26}  {'test':<14}  {'threads':>7}  {'t/s':>16}")
    for row in rows:
        rate = f"{row['avg_ts']:.2f} ± {row['stddev_ts']:.2f}"
        click.echo(
            f"{row['run']:<15}  {_artifact(row):<26}  {test_name(row):<14}"
            f"  {row['n_threads']:>7}  {rate:>16}"
        )


def _plot(rows: Sequence[Row]) -> None:
    """Draw a line of blocks for each artifact and test, from its slowest run to its fastest."""
    from pitool.bench.history import test_name
    from pitool.bench.plot import sparkline

    groups: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        groups.setdefault((_artifact(row), test_name(row)), []).append(row["avg_ts"])
    for (artifact, test), rates in groups.items():
        span = f"{min(rates):.1f} to {max(rates):.1f} t/s"
        click.echo(f"{artifact:<26}  {test:<14}  {sparkline(rates[-24:])}  {span}")


def _artifact(row: Row) -> str:
    name = row["bundle"] or row["model_filename"].rpartition("/")[2]
    return name if name.endswith(row["quantisation"]) else f"{name} {row['quantisation']}"

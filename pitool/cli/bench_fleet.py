"""``pitool bench --hosts``: one table of several boards."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click


def run(hosts: str, arguments: Sequence[str], output: str) -> None:
    """Bench the hosts and print what they gave; PitoolError after that when one gave nothing."""
    from pitool.bench import fleet
    from pitool.errors import PitoolError, UsageError

    if output not in ("table", "json", "jsonl"):
        raise UsageError(f"-o {output} cannot show several hosts", "take table, json or jsonl")
    names = [name.strip() for name in hosts.split(",")]
    answers = fleet.bench(
        names, fleet.without_output(arguments), lambda line: click.echo(line, err=True)
    )
    rows = [row for answer in answers for row in answer.rows]
    if output == "json":
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif output == "jsonl":
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
    else:
        _table(rows)
    failed = [f"{answer.host} ({answer.problem})" for answer in answers if answer.problem]
    if failed:
        raise PitoolError(f"not measured: {', '.join(failed)}", "the others are above")


def _table(rows: Sequence[dict[str, object]]) -> None:
    from pitool.bench.history import test_name

    click.echo(f"{'host':<22}  {'artifact':<22}  {'test':<12}  {'t/s':>18}")
    for row in rows:
        rate = f"{row['avg_ts']:.2f} ± {row['stddev_ts']:.2f}"
        name = f"{row['bundle'] or row['model_type']} {row['quantisation']}"
        click.echo(f"{row['host']:<22}  {name:<22}  {test_name(row):<12}  {rate:>18}")

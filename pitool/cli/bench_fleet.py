"""``pitool bench --hosts``: one table of several boards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from pitool.report.progress import Hosts, talk


def run(hosts: str, arguments: Sequence[str], output: str, picture: Path | None) -> None:
    """Bench the hosts and print what they gave; PitoolError after that when one gave nothing."""
    from pitool.bench import card, fleet
    from pitool.bench.printers import PRINTERS
    from pitool.errors import Interrupted, PitoolError

    names = [name.strip() for name in hosts.split(",")]
    with Hosts(names) as lines:
        answers = fleet.bench(
            names, fleet.without_output(arguments), lambda text: lines.say(*text.split(": ", 1))
        )
    rows = [row for answer in answers for row in answer.rows]
    printer = PRINTERS[output](click.echo, ())
    for row in rows:
        printer.add(row)
    printer.end()
    if picture and rows:
        card.write(picture, rows)
        talk(f"card: {picture}")
    if any(answer.interrupted for answer in answers):
        raise Interrupted("stopped before every host was done", "the others are above")
    failed = [f"{answer.host} ({answer.problem})" for answer in answers if answer.problem]
    if failed:
        raise PitoolError(f"not measured: {', '.join(failed)}", "the others are above")

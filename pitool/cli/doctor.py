"""``pitool doctor``: finds what slows models down on this machine, and how to fix it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pitool.device.doctor.finding import Finding

SIGNS = {"ok": "ok", "note": "note", "warning": "WARNING", "fault": "FAULT"}
COLOURS = {"ok": "green", "note": "cyan", "warning": "yellow", "fault": "red"}
# Lines of text are not read well when they are longer.
WIDEST = 80
INDENT = " " * 9


@click.command("doctor")
@click.option(
    "--board/--host", "as_board", default=None, help="Treat this machine as a board or as a host."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(as_board: bool | None, as_json: bool) -> None:
    """Find what slows models down on this machine, and how to fix it.

    The exit code is 1 if there is a warning or a fault.

    \b
    Example:
      pitool doctor
      pitool doctor --json | jq '.findings[] | select(.severity != "ok")'
    """
    from pitool.device.doctor import examination

    found = examination.examine(host=None if as_board is None else not as_board)
    worst = examination.worst(found)
    if as_json:
        document = {"worst": worst, "findings": [asdict(finding) for finding in found]}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        for finding in found:
            _show(finding)
    if worst in ("warning", "fault"):
        click.get_current_context().exit(1)


def _show(finding: Finding) -> None:
    from pitool.report.streams import write_own
    from pitool.report.text import paint, printable, shows_colour, terminal_width, wrap

    room = min(terminal_width(), WIDEST) - len(INDENT)
    sign = f"{SIGNS[finding.severity]:>7}"
    if shows_colour():
        sign = paint(sign, COLOURS[finding.severity])
    first, *others = [
        *wrap(f"{finding.check}: {finding.found}", room),
        *wrap(finding.cost, room),
    ]
    write_own(f"{sign}  {printable(first)}\n")
    for line in others:
        click.echo(f"{INDENT}{line}")
    if finding.fix:
        click.echo(f"{INDENT}fix: {finding.fix}")  # not wrapped, so that it can be copied

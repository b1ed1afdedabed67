"""``pitool doctor``: what slows a model down here, or stops it, and how to mend it."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pitool.device.doctor.finding import Finding

SIGNS = {"ok": "ok", "note": "note", "warning": "WARNING", "fault": "FAULT"}
COLOURS = {"ok": "green", "note": "cyan", "warning": "yellow", "fault": "red"}
WIDTH = 78
INDENT = " " * 9


@click.command("doctor")
@click.option("--board/--host", "as_board", default=None, help="Do not guess what this machine is.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(as_board: bool | None, as_json: bool) -> None:
    """Examine this machine: what a finding costs, and its exact fix.

    Exit code 0 when nothing is worse than a note, 1 otherwise.

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
    sign = click.style(f"{SIGNS[finding.severity]:>7}", fg=COLOURS[finding.severity])
    first, *others = _wrapped(f"{finding.check}: {finding.found}") + _wrapped(finding.cost)
    click.echo(f"{sign}  {first}")
    for line in others:
        click.echo(f"{INDENT}{line}")
    if finding.fix:
        click.echo(f"{INDENT}fix: {finding.fix}")  # whole, so that it can be copied


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH - len(INDENT))

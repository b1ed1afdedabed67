"""``pitool models``: the catalogue of ready models, judged for a board."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pitool.planning.catalogue import Entry
    from pitool.planning.places import Place
    from pitool.report.tables import Section


@click.command("models")
@click.option("--ram", metavar="TIER", help="Judge for a board with this RAM, such as 8gb.")
@click.option("--board", metavar="BOARD", help="Judge for this board, such as pi5.")
@click.option("--all", "everything", is_flag=True, help="Show those that do not fit, too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(ram: str | None, board: str | None, everything: bool, as_json: bool) -> None:
    """List ready models that fit this machine, best first.

    They are what pull downloads by name. Judged for this machine, or for another with --board and
    --ram. Nothing is asked of the hub.

    \b
    Example:
      pitool models
      pitool models --board pi5 --ram 8gb
    """
    from pitool.device.here import find_place
    from pitool.planning.catalogue import catalogue
    from pitool.report.tables import show

    place, corrections = find_place(ram, board)
    found = catalogue(place, corrections)
    if as_json:
        document = {"place": place.name, "models": [entry.to_json() for entry in found]}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        show([_table(found, place, everything=everything)])


def _table(found: list[Entry], place: Place, *, everything: bool) -> Section:
    from pitool.report.tables import Column, Section

    shown = [entry for entry in found if everything or entry.verdict != "no"]
    columns = [
        Column("model", "left"),
        Column("quant", "left"),
        Column("size"),
        Column("memory", priority=2),
        Column("t/s"),
        Column(place.title, "left"),
        Column("licence", "left", priority=1),
        Column("good at", "left", priority=3),
    ]
    notes = ["~ estimated: no exact size was published; t/s: predicted decode"]
    if hidden := len(found) - len(shown):
        notes.append(f"{hidden} that do not fit are not shown (--all)")
    if shown and shown[0].recommended:
        name = shown[0].name
        notes.append(f"* recommended: pitool pull {name}, then: pitool chat")
    return Section("", columns, [_row(entry) for entry in shown], notes)


def _row(entry: Entry) -> list[str]:
    from pitool.report.numbers import NONE, format_bytes, format_speed

    return [
        ("* " if entry.recommended else "  ") + entry.name,
        entry.recipe.quantisation,
        ("~" if entry.estimated else "") + format_bytes(entry.bytes),
        format_bytes(entry.needed),
        NONE if entry.decode is None else format_speed(entry.decode),
        entry.verdict.value,
        entry.recipe.licence,
        entry.recipe.summary,
    ]

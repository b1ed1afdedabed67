"""``pitool pull``: a model from the hub, ready to run, becomes a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pitool.cli.ranges import WholeRange

if TYPE_CHECKING:
    from pitool.catalog.bundles import Bundle
    from pitool.pull.choice import Candidate, Choice
    from pitool.pull.request import Request
    from pitool.report.tables import Section


@click.command("pull")
@click.argument("model", metavar="NAME|OWNER/REPO[:QUANT]")
@click.option("--ram", metavar="TIER", help="Choose for a board with this RAM, such as 8gb.")
@click.option("--board", metavar="BOARD", help="Choose for this board, such as pi5.")
@click.option("--context", type=WholeRange(min=256), help="Tokens of context to plan for.")
@click.option("--revision", metavar="REV", help="Branch, tag or commit on the hub.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the bundle to write.")
@click.option("--list", "only_list", is_flag=True, help="List what there is; download nothing.")
@click.option("--force", is_flag=True, help="Pull what does not fit; replace an existing bundle.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(model: str, only_list: bool, as_json: bool, **options: Any) -> None:
    """Download a ready model: a GGUF or an ONNX folder.

    It becomes a bundle. NAME is one of 'pitool models', OWNER/REPO any repository of the hub. Of
    several quantisations the best that fits this machine (or --board and --ram) is taken; :QUANT
    names one. Downloads are resumed and checked. HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE are
    respected.

    \b
    Example:
      pitool pull qwen2.5-0.5b
      pitool pull Qwen/Qwen2.5-1.5B-Instruct-GGUF --list
      pitool pull Qwen/Qwen2.5-1.5B-Instruct-GGUF:Q4_K_M
    """
    from pitool.cli.show import show

    request, choice = _open(model, options)
    if only_list:
        _list(request, choice, as_json=as_json)
        return
    bundle = _pull(request, choice, options)
    if as_json:
        from pitool.catalog.manifest import to_json

        document = {"bundle": str(bundle.path), "manifest": to_json(bundle.manifest)}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        show(bundle)


def _open(model: str, options: dict[str, Any]) -> tuple[Request, Choice]:
    """Ask the hub what there is."""
    from pitool.catalog.profiles import BALANCED, find_profile
    from pitool.device.here import find_place
    from pitool.pull.choice import Choice
    from pitool.pull.hub import find_hub
    from pitool.pull.request import find_request

    request = find_request(model, options["revision"])
    place, corrections = find_place(options["ram"], options["board"])
    hub = find_hub()
    repository, variants = request.open(hub.repository)
    profile = find_profile(BALANCED)
    context = options["context"] or request.context
    choice = Choice(hub, repository, variants, place, profile, context, corrections)
    return request, choice


def _list(request: Request, choice: Choice, *, as_json: bool) -> None:
    from pitool.pull.choice import to_json
    from pitool.report.tables import show

    if as_json:
        document = {
            "repository": choice.repository.id,
            "revision": choice.repository.commit,
            "licence": request.licence or choice.repository.licence,
            "place": choice.place.name,
            "models": [to_json(c, choice.profile) for c in choice.candidates],
            "chosen": _chosen(request, choice)[0],
        }
        click.echo(json.dumps(document, indent=2))
    else:
        show([_table(request, choice)])


def _chosen(request: Request, choice: Choice) -> tuple[str | None, str]:
    """Return what would be pulled, if anything, and why or why not."""
    from pitool.errors import PitoolError
    from pitool.pull.request import choose

    try:
        candidate, reason = choose(request, choice)
    except PitoolError as error:
        return None, error.sentence
    return candidate.variant.name, reason


def _table(request: Request, choice: Choice) -> Section:
    from pitool.report.numbers import NONE, format_bytes, format_speed
    from pitool.report.tables import Column, Section

    chosen, reason = _chosen(request, choice)

    def row(candidate: Candidate) -> list[str]:
        verdict = candidate.verdict(choice.profile)
        parts = len(candidate.variant.files)
        return [
            ("* " if candidate.variant.name == chosen else "  ") + candidate.variant.quantisation,
            format_bytes(candidate.variant.bytes),
            NONE if candidate.needed is None else format_bytes(candidate.needed),
            verdict.value if verdict else "unknown",
            NONE if candidate.decode is None else format_speed(candidate.decode),
            candidate.variant.name + (f" ({parts} files)" if parts > 1 else ""),
        ]

    columns = [
        Column("quant", "left"),
        Column("size"),
        Column("memory"),
        Column(choice.place.title, "left"),
        Column("t/s"),
        Column("file", "left", "middle", priority=1),
    ]
    licence = request.licence or choice.repository.licence or "not stated"
    return Section(
        f"{choice.repository.id}: licence {licence}",
        columns,
        [row(candidate) for candidate in choice.candidates],
        [f"* {reason}" if chosen else reason],
    )


def _pull(request: Request, choice: Choice, options: dict[str, Any]) -> Bundle:
    """Choose, say what is chosen, and download it unless it is here."""
    from pitool.pull.bundle import already, pull
    from pitool.pull.choice import describe
    from pitool.pull.request import choose, target_of
    from pitool.report.numbers import format_bytes
    from pitool.report.progress import Stages, talk

    candidate, reason = choose(request, choice, force=options["force"])
    target = target_of(choice, candidate, options["out"])
    licence = request.licence or choice.repository.licence
    talk(reason)
    talk(
        f"{candidate.variant.name} of {choice.repository.id}:"
        f" {format_bytes(candidate.variant.bytes)}, {describe(candidate)}"
    )
    talk(f"licence: {licence or 'not stated: look at the page of the repository'}")
    if not options["force"] and (here := already(target, choice, candidate)):
        talk(f"already on this machine: {target}")
        return here
    with Stages() as progress:
        return pull(choice, candidate, target, progress, replace=options["force"], licence=licence)

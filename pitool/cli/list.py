"""``pitool list``: the bundles on this machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pitool.catalog.bundles import Bundle
    from pitool.catalog.manifest import Artifact
    from pitool.device.forecast import Forecast


@click.command("list")
@click.option(
    "--sort",
    type=click.Choice(["newest", "fit", "speed"]),
    default="newest",
    show_default=True,
    help="Order: by date, by the memory that stays free, by predicted speed.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(sort: str, as_json: bool) -> None:
    """List the bundles on this machine, newest first.

    \b
    Example:
      pitool list
      pitool list --sort speed
    """
    from pitool.catalog.bundles import GET_ONE, default_folder, list_bundles
    from pitool.catalog.manifest import to_json
    from pitool.device.forecast import Judge
    from pitool.report.numbers import format_bytes, format_date
    from pitool.report.tables import Column, Section, show

    bundles, broken = list_bundles()
    judge = Judge()
    if as_json:
        document = {
            "bundles": [
                to_json(bundle.manifest)
                | {
                    "path": str(bundle.path),
                    "fits_here": {
                        a.quantisation: judge(a).verdict for a in bundle.manifest.artifacts
                    },
                }
                for bundle in bundles
            ],
            "broken": [error.what for error in broken],
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    for error in broken:
        click.echo(f"broken: {error.what}", err=True)
    if not bundles:
        click.echo(f"no bundles in {default_folder()}: {GET_ONE}", err=True)
        return
    found = [(b, a, judge(a)) for b in bundles for a in b.manifest.artifacts]
    if sort == "fit":
        found.sort(key=lambda each: _share(each[2]))
    elif sort == "speed":
        found.sort(key=lambda each: -_fastest(each[1], each[2]))
    rows = [
        (
            bundle.path.name,
            f"{artifact.format} {artifact.quantisation}",
            format_bytes(artifact.bytes),
            str(artifact.context),
            _speed(artifact, forecast),
            forecast.words,
            _quality(artifact),
            format_date(bundle.manifest.created),
        )
        for bundle, artifact, forecast in found
    ]
    columns = [
        Column("bundle", "left", "middle"),
        Column("artifact", "left", "middle"),
        Column("size"),
        Column("context", priority=3),
        Column("t/s", priority=2, note=_boards(found)),
        Column("memory here", "left"),
        Column("certificate", "left"),
        Column("created", "left", priority=1),
    ]
    show([Section("", columns, rows)])


def _boards(found: Sequence[tuple[Bundle, Artifact, Forecast]]) -> str:
    """Say of which boards the speeds are."""
    if any(forecast.speed for _, _, forecast in found):
        return "t/s: predicted decode here"
    boards = dict.fromkeys(speed.board for _, artifact, _ in found for speed in artifact.speed)
    return f"t/s: predicted decode, slowest to fastest of {', '.join(boards)}" if boards else ""


def _speed(artifact: Artifact, forecast: Forecast) -> str:
    """Return the predicted decode here, or over the boards that it was made for.

    A dash where it does not fit.
    """
    from pitool.planning.places import Verdict
    from pitool.report.numbers import NONE, format_range, format_speed

    if forecast.verdict is Verdict.NO:
        return NONE
    if forecast.speed is not None:
        return format_speed(forecast.speed.decode)
    return format_range(speed.decode for speed in artifact.speed)


def _fastest(artifact: Artifact, forecast: Forecast) -> float:
    """Return what the speeds are sorted by, 0 where none is shown."""
    from pitool.planning.places import Verdict

    speeds = [forecast.speed] if forecast.speed else artifact.speed
    if forecast.verdict is Verdict.NO:
        return 0.0
    return max((speed.decode for speed in speeds), default=0.0)


def _share(forecast: Forecast) -> float:
    """Return the share of the free memory that is needed, the unknown last."""
    from math import inf

    return inf if forecast.share is None else forecast.share


def _quality(artifact: Artifact) -> str:
    """Return the KL divergence, and whether it is one from the checkpoint; an encoder's cosine."""
    from pitool.report.numbers import format_fixed

    found = artifact.certificate
    if artifact.cosine is not None:
        return f"cosine {format_fixed(artifact.cosine, 4)}"
    if found is None:
        return "none"
    against = "" if found.verified else " (other)"
    return f"KL {format_fixed(found.mean_kl, 4)}{against}"

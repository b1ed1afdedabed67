"""``pitool list``: the bundles on this machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pitool.catalog.manifest import Certificate


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(as_json: bool) -> None:
    """List the bundles on this machine, newest first.

    \b
    Example:
      pitool list
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
    rows = [
        (
            bundle.path.name,
            f"{artifact.format} {artifact.quantisation}",
            format_bytes(artifact.bytes),
            str(artifact.context),
            judge(artifact).words,
            _quality(artifact.certificate),
            format_date(bundle.manifest.created),
        )
        for bundle in bundles
        for artifact in bundle.manifest.artifacts
    ]
    columns = [
        Column("bundle", "left", "middle"),
        Column("artifact", "left", "middle"),
        Column("size"),
        Column("context", priority=2),
        Column("memory here", "left"),
        Column("certificate", "left"),
        Column("created", "left", priority=1),
    ]
    show([Section("", columns, rows)])


def _quality(found: Certificate | None) -> str:
    """Return the KL divergence, and whether it is one from the checkpoint."""
    from pitool.report.numbers import format_fixed

    if found is None:
        return "none"
    against = "" if found.verified else " (other)"
    return f"KL {format_fixed(found.mean_kl, 4)}{against}"

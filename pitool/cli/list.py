"""``pitool list``: the bundles on this machine."""

from __future__ import annotations

import json

import click


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(as_json: bool) -> None:
    """List the bundles on this machine, newest first.

    \b
    Example:
      pitool list
    """
    from pitool.catalog.bundles import default_folder, list_bundles
    from pitool.catalog.manifest import to_json
    from pitool.device.verdict import Judge
    from pitool.report.numbers import format_bytes

    bundles, broken = list_bundles()
    judge = Judge()
    if as_json:
        document = {
            "bundles": [
                to_json(bundle.manifest)
                | {
                    "path": str(bundle.path),
                    "fits_here": {a.quantisation: judge(a).fit for a in bundle.manifest.artifacts},
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
        click.echo(f"there is no bundle in {default_folder()}: pitool convert", err=True)
        return
    rows = [
        (
            bundle.path.name,
            f"{artifact.format} {artifact.quantisation}",
            format_bytes(artifact.bytes),
            str(artifact.context),
            judge(artifact).words,
            bundle.manifest.created[:10],
        )
        for bundle in bundles
        for artifact in bundle.manifest.artifacts
    ]
    lines = [("bundle", "artifact", "size", "context", "memory here", "made"), *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            f"{cell:<{w}}" if i in (0, 1, 4, 5) else f"{cell:>{w}}"
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())

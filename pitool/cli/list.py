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
    from pitool.spec.bundles import default_folder, list_bundles
    from pitool.spec.manifest import to_json
    from pitool.spec.memory import format_bytes

    bundles, broken = list_bundles()
    if as_json:
        document = {
            "bundles": [
                to_json(bundle.manifest) | {"path": str(bundle.path)} for bundle in bundles
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
    click.echo(f"{'bundle':<28}  {'artifact':<12}  {'size':>8}  {'context':>7}  {'made':<10}")
    for bundle in bundles:
        for artifact in bundle.manifest.artifacts:
            name = f"{artifact.format} {artifact.quantisation}"
            click.echo(
                f"{bundle.path.name:<28}  {name:<12}  {format_bytes(artifact.bytes):>8}"
                f"  {artifact.context:>7}  {bundle.manifest.created[:10]}"
            )

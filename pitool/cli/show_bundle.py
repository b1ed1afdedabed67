"""``pitool show``: what is in a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("show")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(bundle: Path | None, as_json: bool) -> None:
    """Show a bundle: source, artifacts, memory, speeds, certificate.

    \b
    Example:
      pitool show sample-1gb
    """
    from pitool.catalog.bundles import newest, open_bundle
    from pitool.catalog.manifest import to_json
    from pitool.cli import show

    found = open_bundle(bundle) if bundle else newest()
    if as_json:
        document = {"bundle": str(found.path), "manifest": to_json(found.manifest)}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        show.bundle(found)

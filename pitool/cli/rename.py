"""``pitool rename``: gives a bundle another name."""

from __future__ import annotations

from pathlib import Path

import click

from pitool.cli.names import BundlePath


@click.command("rename")
@click.argument("bundle", type=BundlePath())
@click.argument("name")
def command(bundle: Path, name: str) -> None:
    """Give a bundle another name, by which list, run and the chat know it.

    \b
    Example:
      pitool rename sample-1gb little
    """
    from pitool.catalog.bundles import open_bundle, rename

    renamed = rename(open_bundle(bundle), name)
    click.echo(f"renamed to {renamed.path}", err=True)

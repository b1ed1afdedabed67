"""``pitool rm``: deletes bundles from this machine, after confirmation."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pitool.cli.names import BundlePath


def can_answer() -> bool:
    """Tell whether somebody is there to answer a question."""
    return sys.stdin.isatty()


@click.command("rm")
@click.argument("bundles", nargs=-1, required=True, type=BundlePath())
@click.option("--yes", is_flag=True, help="Delete without asking.")
def command(bundles: tuple[Path, ...], yes: bool) -> None:
    """Delete bundles from this machine.

    \b
    Example:
      pitool rm sample-1gb
      pitool rm sample-1gb --yes
    """
    from pitool.catalog.bundles import check_deletable, delete, open_bundle
    from pitool.errors import UsageError
    from pitool.report.numbers import format_bytes

    if not yes and not can_answer():
        raise UsageError("rm asks before it deletes, and there is no terminal", "use --yes")
    # All names are checked first: a typo in the last one must not leave the first one deleted.
    found = [open_bundle(path) for path in bundles]
    for bundle in found:
        check_deletable(bundle)
    for bundle in found:
        size = format_bytes(sum(artifact.bytes for artifact in bundle.manifest.artifacts))
        if yes or click.confirm(f"delete {bundle.path} ({size})?", err=True):
            delete(bundle)
            click.echo(f"deleted {bundle.path}", err=True)

"""Names that the shell completes: commands, bundles, clusters; looked up when it asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem


class Name(click.ParamType[str]):
    """The name of a thing, out of those that ``names`` returns when the shell asks."""

    def __init__(self, thing: str, names: Callable[[], Iterable[str]]) -> None:
        self.name, self._names = thing, names

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's
        param: click.Parameter,  # noqa: ARG002 - click's
        incomplete: str,
    ) -> list[CompletionItem]:
        """Return the names that begin so."""
        return [CompletionItem(name) for name in self._names() if name.startswith(incomplete)]


def _commands() -> Iterable[str]:
    from pitool.cli.commands import commands

    return commands()


def _clusters() -> Iterable[str]:
    from pitool.cluster.members import clusters

    return clusters()


COMMAND, CLUSTER = Name("command", _commands), Name("cluster", _clusters)

cluster_option = click.option(
    "--cluster",
    type=CLUSTER,
    metavar="NAME",
    help="Run it over the boards of a cluster (pitool cluster).",
)


class BundlePath(click.Path):
    """The name of a bundle in the default folder, or a path."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the bundles that begin so, then have the shell complete files."""
        from pitool.catalog.bundles import default_folder

        folder = default_folder()
        names = [path.name for path in sorted(folder.glob("[!.]*"))] if folder.is_dir() else []
        found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return [*found, *super().shell_complete(ctx, param, incomplete)]

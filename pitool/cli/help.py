"""``pitool help``: the help of a command."""

from __future__ import annotations

import click

from pitool.cli.names import COMMAND


@click.command("help")
@click.argument("names", nargs=-1, metavar="[COMMAND]...", type=COMMAND)
@click.pass_context
def command(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Show the help of a command, or all commands.

    \b
    Example:
      pitool help convert
      pitool help bench history
    """
    parent = ctx.parent
    assert parent is not None
    found: click.Command = parent.command
    for name in names:
        parent, found = _below(parent, found, name)
    click.echo(found.get_help(parent))


def _below(
    parent: click.Context, group: click.Command, name: str
) -> tuple[click.Context, click.Command]:
    """Return a command of a group and the context of its help; UsageError names the nearest."""
    from pitool.catalog.tables import nearest
    from pitool.errors import UsageError

    known = group.list_commands(parent) if isinstance(group, click.Group) else []
    found = group.get_command(parent, name) if isinstance(group, click.Group) else None
    if found is None:
        hint = nearest(name, known) if known else "use pitool help to list the commands"
        raise UsageError(f"there is no command {name!r}", hint)
    return click.Context(found, info_name=name, parent=parent), found

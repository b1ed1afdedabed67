"""The commands: their sections, and the group that imports one when it is called."""

from __future__ import annotations

import importlib

import click
from click.shell_completion import CompletionItem

from pitool import __version__
from pitool.catalog.tables import nearest
from pitool.errors import UsageError

# Section of --help -> command -> module in this package with an object named `command`.
SECTIONS = {
    "On the laptop": {
        "plan": "pitool.cli.plan",
        "convert": "pitool.cli.convert",
        "compare": "pitool.cli.compare",
        "wheel": "pitool.cli.wheel",
        "pack": "pitool.cli.pack",
        "push": "pitool.cli.push",
    },
    "Use a model": {
        "models": "pitool.cli.models",
        "pull": "pitool.cli.pull",
        "chat": "pitool.cli.chat",
        "run": "pitool.cli.run",
        "prefill": "pitool.cli.prefill",
        "serve": "pitool.cli.serve",
        "service": "pitool.cli.service",
        "cluster": "pitool.cli.cluster",
        "bench": "pitool.cli.bench",
        "tune": "pitool.cli.tune",
        "verify": "pitool.cli.verify",
    },
    "Manage bundles and the board": {
        "list": "pitool.cli.list",
        "show": "pitool.cli.show",
        "rename": "pitool.cli.rename",
        "rm": "pitool.cli.rm",
        "doctor": "pitool.cli.doctor",
        "monitor": "pitool.cli.monitor",
        "report": "pitool.cli.report",
        "help": "pitool.cli.help",
        "completion": "pitool.cli.completion",
    },
}


def commands() -> dict[str, str]:
    """Return the module of each command, in the order in which a person needs them."""
    return {name: module for rows in SECTIONS.values() for name, module in rows.items()}


class ClosedPipe(Exception):  # noqa: N818 - not an error
    """The reader of stdout closed the pipe; click would exit with a code of its own."""


class Commands(click.Group):
    """A group that imports a command when it is called or listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which they are used."""
        return list(commands())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name."""
        module = commands().get(cmd_name)
        if module is None:
            return None
        command: click.Command = importlib.import_module(module).command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command's name without importing them all, as click would."""
        names = [CompletionItem(name) for name in commands() if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*names, *options]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; UsageError suggests the nearest name."""
        known = commands()
        if args and args[0] not in known and not args[0].startswith("-"):
            raise UsageError(f"unknown command {args[0]!r}", nearest(args[0], known))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in sections."""
        room = formatter.width - 6 - max(map(len, commands()))
        for section, rows in SECTIONS.items():
            with formatter.section(section):
                found = ((name, self.get_command(ctx, name)) for name in rows)
                formatter.write_dl(
                    [(name, command.get_short_help_str(room)) for name, command in found if command]
                )

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; keep a closed pipe from click, which would handle it itself."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ClosedPipe from error


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
)
@click.option(
    "-c", "--continue", "resume", is_flag=True, help="Go on with the last model and conversation."
)
@click.version_option(__version__, "-V", "--version", prog_name="pitool")
@click.pass_context
def cli(ctx: click.Context, resume: bool) -> None:
    """Run language models on a Raspberry Pi.

    Without a command, pitool starts the chat.

    \b
    Example:
      pitool models
      pitool pull qwen3-1.7b
      pitool run "What is a Raspberry Pi?"
      pitool --continue
      pitool help convert
    """
    if ctx.invoked_subcommand is None:
        chat = cli.get_command(ctx, "chat")
        assert chat
        ctx.invoke(chat, resume=resume)
    elif resume:
        raise UsageError("--continue is for the chat", "use pitool --continue, without a command")

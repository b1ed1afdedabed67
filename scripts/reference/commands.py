"""Every command with its options, as its ``--help`` has them."""

from __future__ import annotations

from collections.abc import Iterator

import click

from pitool.cli.commands import SECTIONS, cli

_MARKS = str.maketrans({"<": "&lt;", "*": "\\*", "_": "\\_", "[": "\\["})


def lines() -> Iterator[str]:
    """Yield the commands by their sections."""
    root = click.Context(cli, info_name="pitool", **cli.context_settings)
    yield "## pitool"
    yield ""
    yield from _body(cli, root, "pitool [OPTIONS] [COMMAND [ARGUMENTS]]")
    for section, names in SECTIONS.items():
        yield from ("", f"## {section}")
        for name in names:
            command = cli.get_command(root, name)
            assert command is not None
            yield from _command(command, root, f"pitool {name}")


def _command(command: click.Command, parent: click.Context, path: str) -> Iterator[str]:
    context = click.Context(command, info_name=command.name, parent=parent)
    usage = " ".join(command.collect_usage_pieces(context))
    yield from ("", f"### {path}", "")
    yield from _body(command, context, f"{path} {usage}")
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _command(below, context, f"{path} {name}")


def _body(command: click.Command, context: click.Context, usage: str) -> Iterator[str]:
    yield from ("```text", usage, "```")
    for paragraph in (command.help or "").split("\n\n"):
        yield ""
        yield from _paragraph(paragraph)
    yield ""
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and isinstance(parameter, click.Option):
            yield f"- `{record[0]}`: {_plain(record[1])}"


def _paragraph(paragraph: str) -> Iterator[str]:
    """Yield a paragraph; what click does not wrap is code, below ``Example:`` or alone."""
    stripped = [line.strip() for line in paragraph.splitlines()]
    if "\b" not in stripped:
        yield _plain(" ".join(stripped))
        return
    kept = [line for line in stripped if line and line != "\b"]
    if kept[:1] == ["Example:"]:
        yield from ("Example:", "")
        kept = kept[1:]
    yield from (f"    {line}" for line in kept)


def _plain(text: str) -> str:
    """Return a text in which Markdown marks nothing."""
    return " ".join(text.split()).translate(_MARKS)

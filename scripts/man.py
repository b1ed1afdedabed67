"""Writes the man page from the commands: one page for all of them.

    python scripts/man.py          # rewrites man/pitool.1

A test checks that the page is the one of the present commands.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from pitool import __version__
from pitool.cli.commands import SECTIONS, cli

PAGE = Path(__file__).parents[1] / "man" / "pitool.1"


def page() -> str:
    """Return the page in roff, as man(7) describes it."""
    root = click.Context(cli, info_name="pitool", **cli.context_settings)
    short = cli.get_short_help_str(200).rstrip(".")
    lines = [
        f'.TH PITOOL 1 "" "pitool {__version__}" "User Commands"',
        ".SH NAME",
        f"pitool \\- {_plain(short[0].lower() + short[1:])}",
        ".SH SYNOPSIS",
        ".B pitool",
        "[\\fIOPTIONS\\fR] [\\fICOMMAND\\fR [\\fIARGUMENTS\\fR]]",
        ".SH DESCRIPTION",
        *_description(cli),
        ".SH OPTIONS",
        *_options(cli, root),
    ]
    for section, names in SECTIONS.items():
        lines.append(f'.SH "{section.upper()}"')
        for name in names:
            command = cli.get_command(root, name)
            assert command is not None
            lines += _command(command, root, f"pitool {name}")
    lines += [
        ".SH FILES",
        ".TP",
        ".I ~/.local/share/pitool",
        "Bundles, conversations and benchmarks; another folder with",
        ".BR PITOOL_HOME .",
        ".SH EXIT STATUS",
        "0 done, 1 fault, 2 usage, 3 does not fit, 4 bad input file, 5 missing component,",
        "130 interrupted, 141 closed pipe.",
    ]
    return "\n".join(lines) + "\n"


def _command(command: click.Command, parent: click.Context, path: str) -> Iterator[str]:
    context = click.Context(command, info_name=command.name, parent=parent)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f'.SS "{path}"'
    yield f"\\fB{_plain(path)}\\fR {_plain(usage)}"
    yield ".PP"
    yield from _description(command)
    yield from _options(command, context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _command(below, context, f"{path} {name}")


def _description(command: click.Command) -> Iterator[str]:
    """Yield the help's paragraphs; what click does not wrap stands as it is."""
    for paragraph in (command.help or "").split("\n\n"):
        lines = [line.strip() for line in paragraph.splitlines()]
        kept = "\b" in lines
        lines = [_plain(line) for line in lines if line != "\b"]
        yield from [".PP", ".nf", *lines, ".fi"] if kept else [".PP", " ".join(lines)]


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and isinstance(parameter, click.Option):
            yield from (".TP", f"\\fB{_plain(record[0])}\\fR", _plain(record[1]))


def _plain(text: str) -> str:
    """Return a text in which roff obeys nothing."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")

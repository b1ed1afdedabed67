"""The program's entry point and its only exit: finds the command and reports errors.

Data goes to stdout, everything else to stderr. The traceback of an unexpected error goes to a log
whose path is shown.
"""

from __future__ import annotations

import atexit
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress

import click

from pitool import __version__
from pitool.catalog.tables import nearest
from pitool.errors import (
    DoesNotFit,
    Interrupted,
    PitoolError,
    UsageError,
    ended,
    error_of_system,
    readable,
)

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
        "chat": "pitool.cli.chat",
        "run": "pitool.cli.run",
        "serve": "pitool.cli.serve",
        "bench": "pitool.cli.bench",
        "tune": "pitool.cli.tune",
        "verify": "pitool.cli.verify",
    },
    "Manage bundles and the board": {
        "list": "pitool.cli.list",
        "show": "pitool.cli.show",
        "rm": "pitool.cli.rm",
        "doctor": "pitool.cli.doctor",
        "monitor": "pitool.cli.monitor",
    },
}


def commands() -> dict[str, str]:
    """Return the module of each command, in the order in which a person needs them."""
    return {name: module for rows in SECTIONS.values() for name, module in rows.items()}


# Seconds that threads are given to end with the program.
PATIENCE = 2.0


class _ClosedPipe(Exception):  # noqa: N818 - not an error
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
            raise _ClosedPipe from error


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
)
@click.version_option(__version__, prog_name="pitool")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Run language models on a Raspberry Pi.

    Without a command, starts the chat.

    \b
    Example:
      pitool convert sample --ram 1gb
      pitool run "What is a Raspberry Pi?"
    """
    if ctx.invoked_subcommand is None:
        chat = cli.get_command(ctx, "chat")
        assert chat
        ctx.invoke(chat)


def main() -> None:
    """Run the program and exit with its code."""
    _open_closed()
    signal.signal(signal.SIGTERM, _terminate)
    code = run(lambda: cli.main(standalone_mode=False, prog_name="pitool"))
    _leave_threads(code)
    sys.exit(code)


def _leave_threads(code: int) -> None:
    """Exit at once where a thread would not end: a library that was interrupted may leave some."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(PATIENCE)
            if thread.is_alive():
                atexit._run_exitfuncs()
                os._exit(code)


def _open_closed() -> None:
    """Have the null device for a standard stream that is closed.

    A file that is opened later would get its number, and be written to by whoever prints.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free, which is this one.
            os.open(os.devnull, os.O_RDWR)
            mode = "w" if number else "r"
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def _terminate(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def run(call: Callable[[], object]) -> int:
    """Return the exit code of ``call``; an error becomes one line on stderr."""
    try:
        call()
        sys.stdout.flush()
    except click.ClickException as error:
        return _say(error.format_message(), 2)
    except PitoolError as error:
        return _say(error.sentence, error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _say("interrupted", Interrupted.exit_code)
    except (BrokenPipeError, _ClosedPipe):
        # Python would report the closed pipe again when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        known = error_of_system(error)
        return _say(known.sentence, known.exit_code) if known else _fault(error)
    except MemoryError:
        small = DoesNotFit("memory ran out", "close programs, or choose a smaller model")
        return _say(small.sentence, small.exit_code)
    except Exception as error:
        return _fault(error)
    return 0


def _say(text: str, code: int) -> int:
    """Print one line to stderr, where anybody still reads it, and return the exit code."""
    with suppress(OSError):
        click.echo(f"pitool: {ended(readable(text))}", err=True)
    return code


def _fault(error: Exception) -> int:
    """Write the traceback to a log and print its path."""
    from pitool.catalog.bundles import home

    try:
        log = home() / "fault.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        report = f"please report it with {log}"
    except (OSError, PitoolError):
        report = "please report it"
    return _say(f"internal error ({type(error).__name__}: {error}); {report}", 1)

"""A chat line by line, for pipes and for terminals that cannot draw: ``pitool run -i``.

Each line of standard input is a turn of one conversation or a command that needs no screen. An
error is printed, and the dialogue goes on with the next line.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import click

from pitool.catalog.bundles import list_bundles
from pitool.chat.commands import CommandHandlers, as_question, is_command
from pitool.chat.session import Session
from pitool.cli.run_answers import AnswerWriter, say
from pitool.errors import PitoolError
from pitool.report.numbers import format_bytes
from pitool.report.text import pairs, terminal_width
from pitool.store.conversation import Notice

PROMPT = "> "


class Dialogue(CommandHandlers):
    """Does what lines say, with a model that is loaded already."""

    def __init__(self, writer: AnswerWriter) -> None:
        super().__init__(writer.session, list_bundles)
        self._writer = writer
        self._told = 0
        self._ended = False

    def talk(self, first: str | None) -> None:
        """Answer ``first``, then line after line until there are no more; errors are told of."""
        lines = _lines()
        line = first if first is not None else next(lines, None)
        while line is not None:
            if line.strip():
                try:
                    self._turn(line.strip())
                except PitoolError as error:
                    self.say(error.statement)
            line = None if self._ended else next(lines, None)

    def _turn(self, line: str) -> None:
        with self._writer.answering(), _stopped_by_ctrl_c(self.session):
            if is_command(line):
                self.do(line)
            else:
                question, self.attached = self.with_attachment(as_question(line)), None
                if not self.session.ask(question):
                    self.say("No model is loaded: load one with /model NAME.")
        self._tell_notices()
        self._writer.show_figures()

    def _tell_notices(self) -> None:
        """Say what the session put into the conversation since the last turn."""
        rows = self.session.conversation.rows
        for row in rows[min(self._told, len(rows)) :]:
            if isinstance(row, Notice):
                self.say(row.what + row.advice)
        self._told = len(rows)

    def say(self, text: str) -> None:
        """Say something on stderr."""
        say(text)

    def show_table(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """Show aligned pairs of words on stderr."""
        lines = pairs(rows, terminal_width(sys.stderr) - 2)
        self.say("\n".join([f"{title}:", *(f"  {a}{b}".rstrip() for a, b in lines)]))

    def do_help(self, _: str) -> None:
        """List the commands that need no screen."""
        rows = [(command.usage, command.help) for command in self.table]
        self.show_table("Commands", rows)

    def do_system(self, text: str) -> None:
        """Change the system prompt, or show it."""
        if text:
            super().do_system(text)
        else:
            self.say(self.session.conversation.system or "No system prompt is set.")

    def do_attach(self, name: str) -> None:
        """Keep a text file for the next question, and say that it is kept."""
        super().do_attach(name)
        if (file := self.attached) is not None:
            self.say(f"The next question is sent with {file.name}, {format_bytes(file.bytes)}.")

    def do_quit(self, _: str) -> None:
        """End."""
        self._ended = True


def _lines() -> Iterator[str]:
    """Yield the lines of standard input, asked for by a sign where somebody types them."""
    terminal = sys.stdin.isatty()
    if terminal and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        with suppress(ImportError):
            import readline  # noqa: F401 - input() edits and recalls lines with it
        with suppress(EOFError):
            while True:
                yield input(PROMPT)
        click.echo(err=True)
        return
    while True:
        if terminal:
            click.echo(PROMPT, nl=False, err=True)
        line = sys.stdin.buffer.readline()
        if not line:
            break
        yield line.decode(errors="replace")
    if terminal:
        click.echo(err=True)


@contextmanager
def _stopped_by_ctrl_c(session: Session) -> Iterator[None]:
    """Have Ctrl-C stop the answer; a second one, while that does not end, ends the program."""
    asked = False

    def stop(*_: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        session.stop()

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:  # as from the start in the background of a shell
        signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

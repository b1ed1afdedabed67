"""A chat line by line, for pipes and for terminals that cannot draw: ``pitool run`` and its ``-i``.

Answers go to stdout as they are written, everything else to stderr. What is asked and answered is
the chat's own session, whose tasks are done at once; its commands are those that need no screen.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import click

from pitool.catalog.bundles import Runnable, list_bundles
from pitool.chat.answer import PromptStyle
from pitool.chat.commands import CommandHandlers, as_question, is_command
from pitool.chat.engine_slot import Load
from pitool.chat.session import Session
from pitool.chat.tasks import TasksAtOnce
from pitool.device.memory import peak_rss
from pitool.engine.base import Sampling, Timings
from pitool.errors import PitoolError
from pitool.report.numbers import format_bytes, format_rate, format_seconds
from pitool.store.conversation import Answer, Notice

FLUSH_SECONDS = 0.02
"""Faster tokens are shown together: each write wakes a reader on a core the model could use."""

PROMPT = "> "


class Dialogue(CommandHandlers):
    """One conversation on stdin, stdout and stderr."""

    def __init__(self, load: Load, style: PromptStyle, system: str, sampling: Sampling) -> None:
        session = Session(
            load,
            peak_rss,
            self._write,
            system=system,
            style=style,
            tasks=TasksAtOnce,
            frame_seconds=FLUSH_SECONDS,
        )
        super().__init__(session, list_bundles)
        session.set_sampling(sampling)
        self._raw = style.raw
        self._answer: Answer | None = None
        self._written = self._told = 0
        self._shown_timings: Timings | None = None
        self._lost: OSError | None = None
        self._ended = False

    def __enter__(self) -> Dialogue:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def load(self, runnable: Runnable) -> None:
        """Load a model; raises what it ends in."""
        self.session.load(runnable)
        self._raise()
        info = self.session.status.info
        if info is not None and not info.chat_template and not self._raw:
            self.say("the model has no chat template: it continues the text")

    def ask(self, text: str) -> None:
        """Answer one question; raises what it ends in."""
        with self._answering():
            self.session.ask(text)
        self._raise()
        self._figures()

    def talk(self, first: str | None) -> None:
        """Answer ``first``, then line after line until there are no more; errors are told of."""
        lines = _lines()
        line = first if first is not None else next(lines, None)
        while line is not None and not self._ended:
            if line.strip():
                try:
                    self._turn(line.strip())
                except PitoolError as error:
                    self.say(error.statement)
            line = None if self._ended else next(lines, None)

    def _turn(self, line: str) -> None:
        with self._answering(), _stopped_by_ctrl_c(self.session):
            if is_command(line):
                self.do(line)
            else:
                question = self.with_attachment(as_question(line))
                self.attached = None
                if not self.session.ask(question):
                    self.say("No model is chosen: /model NAME loads one.")
        self._tell_notices()
        self._figures()

    # What is written where.

    def say(self, text: str) -> None:
        """Say something on stderr."""
        click.echo(text, err=True)

    def show_table(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """Show aligned pairs of words on stderr."""
        width = max((len(left) for left, _ in rows), default=0) + 2
        lines = (f"  {left:<{width}}{right}".rstrip() for left, right in rows)
        self.say("\n".join([f"{title}:", *lines]))

    def _write(self) -> None:
        """Write what came of the answer; the session calls this while it grows."""
        answer = self.session.conversation.last_answer()
        if answer is None:
            return
        if answer is not self._answer:
            self._answer, self._written = answer, 0
        new = answer.text[self._written :]
        if new and self._lost is None:
            self._written += len(new)
            try:
                sys.stdout.write(new)
                sys.stdout.flush()
            except OSError as error:  # the reader went away
                self._lost = error
                self.session.stop()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """End what is written with a new line, also when it is broken off."""
        before = self._answer, self._written
        try:
            yield
        finally:
            if (self._answer, self._written) != before and self._lost is None:
                sys.stdout.write("\n")
                sys.stdout.flush()
        if self._lost is not None:
            raise self._lost

    def _raise(self) -> None:
        if (error := self.session.last_error) is not None:
            raise error

    def _tell_notices(self) -> None:
        rows = self.session.conversation.rows
        for row in rows[min(self._told, len(rows)) :]:
            if isinstance(row, Notice):
                self.say(row.what + row.advice)
        self._told = len(rows)

    def _figures(self) -> None:
        """Show the speeds of an answer, once."""
        status, answer = self.session.status, self.session.conversation.last_answer()
        t = answer.timings if answer is not None else None
        if answer is None or t is None or t is not status.timings or t is self._shown_timings:
            return
        self._shown_timings = t
        load = status.info.load_seconds if status.info else 0.0
        parts = [
            f"prefill {t.prompt_tokens - t.reused_tokens} tokens, {format_rate(t.prefill_rate)}",
            f"decode {t.decoded_tokens} tokens, {format_rate(t.decode_rate)}",
            f"TTFT {format_seconds(t.ttft_seconds)}",
            f"load {format_seconds(load)}",
            f"memory {format_bytes(status.memory)}" if status.memory else "memory unknown",
        ]
        if answer.finish in ("length", "context"):
            parts.append("stopped at the limit of tokens")
        if answer.finish == "cancelled":
            parts.append("stopped")
        self.say(" | ".join(parts))

    # The commands that are done in another way here.

    def do_help(self, _: str) -> None:
        """List the commands that need no screen."""
        rows = [(command.usage, command.help) for command in self.table]
        self.show_table("Commands", rows)

    def do_system(self, text: str) -> None:
        """Change the system prompt, or show it."""
        if text:
            super().do_system(text)
        else:
            self.say(self.session.conversation.system or "There is no system prompt.")

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

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

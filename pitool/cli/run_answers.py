"""Prints answers on stdout as they are generated; figures and notices go to stderr.

Owns one conversation of a chat session whose tasks run at once. ``pitool run`` prints with it,
with and without ``-i``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from pitool.catalog.bundles import Runnable
from pitool.chat.answer import PromptStyle
from pitool.chat.engine_slot import Load
from pitool.chat.session import Session
from pitool.chat.status import guessed_text
from pitool.chat.tasks import TasksAtOnce
from pitool.device.memory import peak_rss
from pitool.engine.base import Sampling, Timings
from pitool.report.numbers import format_bytes, format_rate, format_seconds
from pitool.store.conversation import Answer

FLUSH_SECONDS = 0.02
"""Faster tokens are shown together: each write wakes a reader on a core the model could use."""


class AnswerWriter:
    """Loads and asks; raises what that ends in."""

    def __init__(self, load: Load, style: PromptStyle, system: str, sampling: Sampling) -> None:
        self.session = Session(
            load,
            peak_rss,
            self._write,
            system=system,
            style=style,
            tasks=TasksAtOnce,
            frame_seconds=FLUSH_SECONDS,
        )
        self.session.set_sampling(sampling)
        self._raw = style.raw
        self._answer: Answer | None = None
        self._written = 0
        self._measured: Timings | None = None
        self._lost: OSError | None = None

    def __enter__(self) -> AnswerWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def load(self, runnable: Runnable) -> None:
        """Load a model."""
        self.session.load(runnable)
        self._raise()
        info = self.session.status.info
        if info is not None and not info.chat_template and not self._raw:
            say("the model has no chat template, so it continues the text")
        if info is not None and info.no_guesses:
            say(info.no_guesses)

    def ask(self, text: str) -> None:
        """Answer one question."""
        with self.answering():
            self.session.ask(text)
        self._raise()
        self.show_figures()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """End what is written meanwhile with a new line, also when it is broken off."""
        before = self._timings
        try:
            yield
        finally:
            now = self._timings
            if now and now is not before and now.decoded_tokens and self._lost is None:
                sys.stdout.write("\n")
                sys.stdout.flush()
        if self._lost is not None:
            raise self._lost

    def show_figures(self) -> None:
        """Show the speeds of the last answer, once."""
        status, answer = self.session.status, self.session.conversation.last_answer()
        t = self._timings
        if answer is None or t is None or t is not status.timings or t is self._measured:
            return
        self._measured = t
        load = status.info.load_seconds if status.info else 0.0
        read = t.prompt_tokens - t.reused_tokens
        reused = f" ({t.reused_tokens} reused)" if t.reused_tokens else ""
        parts = [
            f"prefill {read} tokens{reused}, {format_rate(t.prefill_rate)}",
            f"decode {t.decoded_tokens} tokens, {format_rate(t.decode_rate)}",
            *([f"guessed {guessed}"] if (guessed := guessed_text(t)) else []),
            f"TTFT {format_seconds(t.ttft_seconds)}",
            f"load {format_seconds(load)}",
            f"memory {format_bytes(status.memory)}" if status.memory else "memory unknown",
        ]
        if answer.finish in ("length", "context"):
            parts.append("stopped at the token limit")
        if answer.finish == "cancelled":
            parts.append("stopped")
        say(" | ".join(parts))

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

    @property
    def _timings(self) -> Timings | None:
        answer = self.session.conversation.last_answer()
        return answer.timings if answer is not None else None

    def _raise(self) -> None:
        if (error := self.session.last_error) is not None:
            raise error


def say(text: str) -> None:
    """Say something on stderr."""
    click.echo(text, err=True)

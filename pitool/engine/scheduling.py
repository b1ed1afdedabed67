"""How several answers share one engine: who asks, who is told, and whose turn it is.

A scheduler belongs to the thread that steps it; only ``look`` may be called from another one.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol, cast

from pitool.engine.base import Engine, Prompt, Sampling, Timings, Token
from pitool.errors import PitoolError


class Listener(Protocol):
    """Is told of one answer, to its last token or its error."""

    @property
    def cancelled(self) -> bool:
        """Whether the answer is wanted no more; may change at any time."""

    def token(self, token: Token) -> None:
        """Take the next step of the answer."""

    def fail(self, error: PitoolError) -> None:
        """Take the error that ended it."""


class Scheduler(Protocol):
    """Answers prompts, each in turn or several at once, a step at a time."""

    @property
    def busy(self) -> bool:
        """Whether an answer runs or waits."""

    def add(self, prompt: Prompt, sampling: Sampling, listener: Listener) -> object:
        """Begin an answer, at once or after those that were added before.

        Raises what is wrong with the prompt.
        """

    def step(self) -> None:
        """Compute the next step of what runs, and tell who listens."""

    def look(self) -> None:
        """See that a listener has cancelled, though a step is computing; from any thread."""


class Heard:
    """A listener that keeps what it is told, for a loop that steps and yields."""

    def __init__(self) -> None:
        self.cancelled = False
        self.done = False
        self._tokens: deque[Token] = deque()
        self._error: PitoolError | None = None

    def token(self, token: Token) -> None:
        """Keep the token."""
        self.done = token.finish is not None
        self._tokens.append(token)

    def fail(self, error: PitoolError) -> None:
        """Keep the error."""
        self.done, self._error = True, error

    def take(self) -> Iterator[Token]:
        """Yield the tokens since the last call, then raise the error, if there was one."""
        while self._tokens:
            yield self._tokens.popleft()
        if self._error is not None:
            raise self._error


@dataclass(eq=False, slots=True)
class _Waiting:
    prompt: Prompt
    sampling: Sampling
    listener: Listener


class InTurn:
    """Answers one prompt after the other, of an engine that has one sequence."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: deque[_Waiting] = deque()
        self._steps: Generator[Token, None, None] | None = None
        self._current: Listener | None = None
        self._lock = threading.Lock()

    @property
    def busy(self) -> bool:
        """Whether an answer runs or waits."""
        return self._current is not None or bool(self._waiting)

    def add(self, prompt: Prompt, sampling: Sampling, listener: Listener) -> None:
        """Answer a prompt after those that were added before."""
        self._waiting.append(_Waiting(prompt, sampling, listener))

    def step(self) -> None:
        """Compute the next step of the first."""
        if self._current is None and not self._next():
            return
        assert self._current is not None
        assert self._steps is not None
        self.look()  # it may have been cancelled before the engine began
        try:
            token = next(self._steps, None)
        except PitoolError as error:
            self._end().fail(error)
            return
        if token is None:
            self._end()
        else:
            listener = self._current if token.finish is None else self._end()
            listener.token(token)

    def look(self) -> None:
        """End the running answer if it was cancelled."""
        with self._lock:
            if self._current is not None and self._current.cancelled:
                self._engine.cancel()

    def _next(self) -> bool:
        """Begin with the first that is still wanted; False where there is none."""
        while self._waiting:
            first = self._waiting.popleft()
            if first.listener.cancelled:
                first.listener.token(Token("", None, Timings(0), "cancelled"))
                continue
            steps = self._engine.stream(first.prompt, first.sampling)
            self._steps = cast("Generator[Token, None, None]", steps)
            with self._lock:
                self._current = first.listener
            return True
        return False

    def _end(self) -> Listener:
        """Let go of the running answer; return who listened to it."""
        with self._lock:
            listener, self._current = self._current, None
        assert listener is not None
        assert self._steps is not None
        with closing(self._steps):
            self._steps = None
        return listener

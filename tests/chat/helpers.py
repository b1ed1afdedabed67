"""Engines that misbehave, and waiting for a condition instead of for a time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pitool.catalog.bundles import Runnable
from pitool.chat.session import Session
from pitool.engine.base import Engine, Prompt, Sampling, Token
from pitool.engine.scripted import Scripted
from pitool.errors import WorkerDied

SECONDS = 120  # nothing waits for so long but a test that fails
KILLED = "the worker was killed, most likely because memory ran out"


class Tracked(Scripted):
    """Remembers what it was asked and whether it was closed."""

    def __init__(self, answers: Sequence[str] = ("Hello from the script.",)) -> None:
        super().__init__(answers)
        self.prompts: list[Any] = []
        self.closed = False

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[Token]:
        self.prompts.append(prompt)
        yield from super().stream(prompt, sampling)

    def close(self) -> None:
        self.closed = True


class Halting(Tracked):
    """Stops after two words until it is cancelled or let go."""

    def __init__(self, answers: Sequence[str] = ("one two three four five",)) -> None:
        super().__init__(answers)
        self.go = threading.Event()
        self.cancels = 0

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[Token]:
        for token in super().stream(prompt, sampling):
            yield token
            if token.timings.decoded_tokens == 2 and token.finish is None:
                assert self.go.wait(SECONDS)

    def cancel(self) -> None:
        self.cancels += 1
        super().cancel()
        self.go.set()


class Dying(Tracked):
    """Its process is killed after so many tokens; 0 is before anything was read."""

    def __init__(self, after: int, answers: Sequence[str] = ("one two three four five",)) -> None:
        super().__init__(answers)
        self._after = after

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[Token]:
        if self._after == 0:
            raise WorkerDied(KILLED, "load with a smaller --context")
        for token in super().stream(prompt, sampling):
            yield token
            if token.timings.decoded_tokens == self._after:
                raise WorkerDied(KILLED, "load with a smaller --context")


class Loader:
    """Hands out engines in turn, or raises what stands in their place; the last one stays."""

    def __init__(self, *engines: Engine | Exception) -> None:
        self._engines = list(engines)
        self.loads: list[Runnable] = []

    def __call__(self, runnable: Runnable, on_progress: Callable[[float], None]) -> Engine:
        self.loads.append(runnable)
        on_progress(0.5)
        engine = self._engines.pop(0) if len(self._engines) > 1 else self._engines[0]
        if isinstance(engine, Exception):
            raise engine
        on_progress(1.0)
        return engine


class LoadLog:
    """Loads engines that write down what is done with them."""

    def __init__(self, engine: Callable[[], Tracked] = Tracked) -> None:
        self.lines: list[str] = []
        self._engine = engine

    def __call__(self, runnable: Runnable, on_progress: Callable[[float], None]) -> Engine:
        name, lines = runnable.quantisation, self.lines
        lines.append(f"load {name}")
        on_progress(1.0)
        engine = self._engine()
        close, stream = engine.close, engine.stream

        def logged_close() -> None:
            lines.append(f"close {name}")
            close()

        def logged_stream(prompt: Prompt, sampling: Sampling) -> Iterator[Token]:
            lines.append(f"answer {name}")
            return stream(prompt, sampling)

        engine.close, engine.stream = logged_close, logged_stream  # type: ignore[method-assign]
        return engine


def wait(condition: Callable[[], object]) -> None:
    """Return when the condition holds."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "the condition never came to hold"
        time.sleep(0.002)


async def until(condition: Callable[[], object]) -> None:
    """Return when the condition holds; the app runs meanwhile."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "the condition never came to hold"
        await asyncio.sleep(0.01)


def settled(session: Session) -> bool:
    """Tell whether the session has nothing to do and nothing growing."""
    growing = (getattr(row, "finish", "") is None for row in session.conversation.rows)
    return not session.status.busy and not any(growing)

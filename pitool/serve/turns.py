"""A model that is loaded, and the turn of one request to ask it; engines are asked in threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from pitool.engine.base import Engine, Prompt, Sampling, Token
from pitool.errors import PitoolError
from pitool.serve.pump import Pump, in_thread
from pitool.serve.shelf import Offer

T = TypeVar("T")
# Seconds in which what a model has read is saved before it goes.
KEEP_SECONDS = 5


class Loader(Protocol):
    """Starts engines; both block."""

    def check(self, offer: Offer, beside: Sequence[Loaded]) -> None:
        """Raise DoesNotFit where a model has no room beside those that are loaded."""

    def load(self, offer: Offer, beside: Sequence[Loaded]) -> Engine:
        """Return its engine."""


@dataclass(eq=False)
class Loaded:
    """A model with its engine; ``users``: answers that run; ``used``: when the last one ended.

    ``keep``: seconds for which it stays unused; times are of the loop's clock.
    """

    offer: Offer
    engine: Engine
    used: float
    keep: float
    users: int = 0
    timer: asyncio.TimerHandle | None = None
    pumps: set[Pump[Any]] = field(default_factory=set)

    @property
    def places(self) -> int:
        """How many answers run at once."""
        return max(self.engine.info.settings.sequences, 1)

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return bool(getattr(self.engine, "alive", True))

    @property
    def expires(self) -> float:
        """Seconds until it goes, if nobody asks."""
        return self.keep if self.users else self.used + self.keep - time.monotonic()


class Turn:
    """The right of one request to ask a model; it ends when what it began has ended too.

    ``waited``: seconds until it came, in line and for a model to be loaded.
    """

    def __init__(self, model: Loaded, waited: float, ended: Callable[[], None]) -> None:
        self.model, self.engine, self.info = model, model.engine, model.engine.info
        self.waited = waited
        self._ended, self._open = ended, 1

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Sequence[Token]]:
        """Yield the tokens of an answer, those that came together; leaving early cancels it."""
        pump = self._begin(lambda: self.engine.stream(prompt, sampling))
        async with aclosing(pump.batches()) as batches:
            async for tokens in batches:
                yield tokens

    async def call(self, ask: Callable[[Engine], T]) -> T:
        """Return what the engine says to a blocking question."""
        pump = self._begin(lambda: iter([ask(self.engine)]))
        async with aclosing(pump.items()) as answer:
            return await anext(answer)

    def _begin(self, make: Callable[[], Iterator[T]]) -> Pump[T]:
        self._open += 1
        pump = Pump(make, lambda: self._gone(pump))
        self.model.pumps.add(pump)
        return pump

    def _gone(self, pump: Pump[Any]) -> None:
        self.model.pumps.discard(pump)
        self.close()

    def close(self) -> None:
        """End one part of it."""
        self._open -= 1
        if not self._open:
            self._ended()


async def keep_prefixes(engine: Engine) -> None:
    """Have an engine save what it has read, if that does not take long."""
    keep = getattr(engine, "keep_prefixes", None)
    if keep is not None:
        with suppress(PitoolError, TimeoutError):
            await asyncio.wait_for(in_thread(keep), KEEP_SECONDS)

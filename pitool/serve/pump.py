"""A blocking generator as an asynchronous one: it runs in a thread of its own.

The event loop never waits for a model, and a model never for a client: what is not taken yet is
held, which for an answer is at most the tokens of a context.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from typing import Any, Generic, TypeVar

from pitool.errors import PitoolError

T = TypeVar("T")


class Pump(Generic[T]):
    """Runs ``make()`` in a thread and gives what it yields; made and read in an event loop.

    ``ended`` is called in the loop when the thread is done with the generator, which may be later
    than its reader leaves: a runtime ends at its next step.
    """

    def __init__(self, make: Callable[[], Iterator[T]], ended: Callable[[], object]) -> None:
        self._make, self._ended = make, ended
        self._loop = asyncio.get_running_loop()
        self._made: deque[T | _End] = deque()
        self._woken = False
        self._items: asyncio.Queue[Sequence[T] | _End] = asyncio.Queue()
        self._left = threading.Event()
        # A daemon, since a runtime that is stuck must not hold up the end of the program.
        threading.Thread(target=self._run, name="pitool answer", daemon=True).start()

    async def items(self) -> AsyncGenerator[T]:
        """Yield what comes; leaving early ends the generator at its next step."""
        async with aclosing(self.batches()) as batches:
            async for batch in batches:
                for item in batch:
                    yield item

    async def batches(self) -> AsyncGenerator[Sequence[T]]:
        """Yield what came together, else like ``items``."""
        try:
            while not isinstance(batch := await self._items.get(), _End):
                yield batch
            if batch.error:
                raise batch.error
        finally:
            self._left.set()

    def fail(self, error: PitoolError) -> None:
        """End it now for its reader, with an error after what came; from the loop."""
        self._left.set()
        self._items.put_nowait(_End(error))

    def _run(self) -> None:
        error: BaseException | None = None
        items: Any = None
        try:
            items = self._make()
            for item in items:
                if self._left.is_set():
                    break
                self._tell(item)
        except BaseException as raised:  # the reader's, whatever it is
            error = raised
        finally:
            with suppress(PitoolError):
                if hasattr(items, "close"):
                    items.close()
        self._tell(_End(error))
        self._call(self._ended)

    def _tell(self, item: T | _End) -> None:
        """Hand over an item; those that come together wake the loop once."""
        self._made.append(item)
        if not self._woken:
            self._woken = True
            self._call(self._take)

    def _take(self) -> None:
        self._woken = False  # first, so that what is made from here on wakes the loop anew
        batch = list[T]()
        end: _End | None = None
        while self._made:
            item = self._made.popleft()
            if isinstance(item, _End):
                end = item
            else:
                batch.append(item)
        for each in (batch, end):
            if each:
                self._items.put_nowait(each)

    def _call(self, call: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop is closed, and nobody reads
            self._loop.call_soon_threadsafe(call)


class _End:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error


async def in_thread(call: Callable[[], T]) -> T:
    """Return the result of a blocking call; whoever is cancelled meanwhile does not wait for it."""
    async with aclosing(Pump(lambda: iter([call()]), lambda: None).items()) as items:
        return await anext(items)

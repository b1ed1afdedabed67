"""Which models are loaded, and whose turn it is: first come, first served.

A model is loaded by the first request that asks for it, beside others where the plan lets it; else
those go that nobody uses, the one that was asked longest ago first. Each answers as many at once as
its engine has sequences; more wait in line, and beyond a number are refused, since on a board each
waits for all before it. All of it happens in the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from pitool.engine.base import Engine
from pitool.errors import DoesNotFit, PitoolError, WorkerDied
from pitool.serve.failures import BusyError, NoRoom, StoppingError
from pitool.serve.pump import in_thread
from pitool.serve.shelf import Offer
from pitool.serve.times import FOREVER
from pitool.serve.turns import Loaded, Loader, Turn, keep_prefixes

WAITING = 4

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Waiter:
    offer: Offer
    place: asyncio.Future[Loaded]


class Models:
    """The models that are loaded; ``waiting``: requests that may wait for each of them.

    ``places``: answers that one of them will give at once; ``keep``: seconds for which an unused
    one stays; ``prepare`` is given an engine that was just loaded, in a thread. ``dead``: ids of
    those whose processes died, until they are loaded again.
    """

    def __init__(
        self,
        loader: Loader,
        *,
        waiting: int = WAITING,
        places: int = 1,
        keep: float = FOREVER,
        prepare: Callable[[Engine], object] = lambda _: None,
    ) -> None:
        self._loader, self._waiting, self._places, self._keep = loader, waiting, places, keep
        self._prepare = prepare
        self.loaded: dict[str, Loaded] = {}
        self._line: list[_Waiter] = []
        self.loading: Offer | None = None
        self.dead: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._hungry = self._stopping = False
        self._freed = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn."""
        return len(self._line)

    @property
    def running(self) -> int:
        """How many requests are being answered."""
        return sum(model.users for model in self.loaded.values())

    @asynccontextmanager
    async def turn(self, offer: Offer, keep: float | None = None) -> AsyncIterator[Turn]:
        """Give a model to one request, loaded if need be; BusyError when too many wait already.

        ``keep``: for how long it stays after this one, where the request says so. Raises what a
        load raises, NoRoom where it does not fit, StoppingError while the server ends.
        """
        start = time.monotonic()
        model = await self._place(offer)
        model.keep = self._keep if keep is None else keep
        turn = Turn(model, time.monotonic() - start, lambda: self._leave(model))
        try:
            yield turn
        except WorkerDied as error:
            self._forget(model, error)
            raise
        finally:
            turn.close()

    async def _place(self, offer: Offer) -> Loaded:
        if self._stopping:
            raise StoppingError
        model = self.loaded.get(offer.id)
        inside = sum(waiter.offer.id == offer.id for waiter in self._line)
        inside += model.users if model else 0
        if inside >= (model.places if model else self._places) + self._waiting:
            raise BusyError("too many requests are waiting", "try again later")
        waiter = _Waiter(offer, asyncio.get_running_loop().create_future())
        self._line.append(waiter)
        self._advance()
        try:
            return await waiter.place
        except asyncio.CancelledError:
            if waiter in self._line:
                self._line.remove(waiter)
            elif not waiter.place.cancelled() and not waiter.place.exception():
                self._leave(waiter.place.result())  # its turn came at this very moment
            raise

    def _advance(self) -> None:
        """Give places to those who wait, in order, and begin to load what is needed first."""
        for waiter in list(self._line):
            model = self.loaded.get(waiter.offer.id)
            if model is not None and not model.alive:
                self._forget(model, None)
                model = None
            if model is None:
                if self._task is None:
                    self.loading = waiter.offer
                    self._task = asyncio.create_task(self._load(waiter.offer))
                if self._hungry:
                    return  # those behind would keep the memory in use that this one waits for
            elif model.users < model.places:
                self._line.remove(waiter)
                self._use(model)
                waiter.place.set_result(model)

    def _use(self, model: Loaded) -> None:
        model.users += 1
        if model.timer is not None:
            model.timer.cancel()
            model.timer = None

    def _leave(self, model: Loaded) -> None:
        """One answer of a model has ended."""
        model.users -= 1
        model.used = time.monotonic()
        self._freed.set()
        if self.loaded.get(model.offer.id) is model:
            self._advance()
            self._set_timer(model)

    # -- loading and unloading -------------------------------------------------------------

    async def _load(self, offer: Offer) -> None:
        """Load a model for those who wait for it, or tell them why it cannot be."""
        failed: BaseException | None = None
        try:
            await self._make_room(offer)
            beside = list(self.loaded.values())
            engine = await in_thread(lambda: self._start(offer, beside))
            model = Loaded(offer, engine, time.monotonic(), self._keep)
            self.loaded[offer.id] = model
            self.dead.discard(offer.id)
        except PitoolError as error:
            failed = NoRoom(error.what, error.do) if isinstance(error, DoesNotFit) else error
        except Exception as error:
            failed = error
        self._task, self.loading, self._hungry = None, None, False
        if failed:
            self._fail(failed, lambda waiter: waiter.offer.id == offer.id)
        self._advance()
        if not failed:
            self._set_timer(model)  # whoever asked may have gone

    def _start(self, offer: Offer, beside: Sequence[Loaded]) -> Engine:
        engine = self._loader.load(offer, beside)
        try:
            self._prepare(engine)
        except BaseException:
            engine.close()
            raise
        return engine

    async def _make_room(self, offer: Offer) -> None:
        """Unload what is in the way, once nobody uses it; DoesNotFit where that is not enough."""
        while True:
            check = partial(self._loader.check, offer, list(self.loaded.values()))
            try:
                await in_thread(check)
            except DoesNotFit:
                if not self.loaded:
                    raise
            else:
                return
            idle = [model for model in self.loaded.values() if not model.users]
            if idle:
                await self._unload(min(idle, key=lambda model: model.used))
                continue
            self._hungry = True
            self._freed.clear()
            await self._freed.wait()

    def _set_timer(self, model: Loaded) -> None:
        """Have an unused model unloaded when its time is over."""
        if model.users or model.keep == FOREVER:
            return
        if model.timer is not None:
            model.timer.cancel()
        loop = asyncio.get_running_loop()
        model.timer = loop.call_later(max(model.keep, 0), self._expire, model)

    def _expire(self, model: Loaded) -> None:
        if not model.users and self.loaded.get(model.offer.id) is model:
            self._spawn(self._unload(model))

    async def _unload(self, model: Loaded) -> None:
        """End a model; its memory is free when this returns."""
        if self.loaded.get(model.offer.id) is model:
            del self.loaded[model.offer.id]
        if model.timer is not None:
            model.timer.cancel()
        if model.alive and not model.users:
            await keep_prefixes(model.engine)
        with suppress(PitoolError):
            await in_thread(model.engine.close)

    def release(self, offer: Offer) -> None:
        """Unload a model as soon as nobody uses it."""
        if (model := self.loaded.get(offer.id)) is not None:
            model.keep = 0
            self._set_timer(model)

    def _forget(self, model: Loaded, error: WorkerDied | None) -> None:
        """Drop a model whose process has died: the next request loads it again."""
        if self.loaded.get(model.offer.id) is not model:
            return
        if error is not None:
            log.error("%s\n%s", error.sentence, error.details)
        self._spawn(self._unload(model))
        self.dead.add(model.offer.id)
        del self.loaded[model.offer.id]
        self._freed.set()

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    # -- the end ---------------------------------------------------------------------------

    def _fail(self, error: BaseException, whose: Callable[[_Waiter], bool]) -> None:
        for waiter in [waiter for waiter in self._line if whose(waiter)]:
            self._line.remove(waiter)
            waiter.place.set_exception(error)

    async def stop(self, seconds: float) -> None:
        """Let nobody in any more; answers that still run after some seconds end with an error."""
        self._stopping = True
        self._fail(StoppingError(), lambda _: True)
        until = time.monotonic() + seconds
        while self.running and time.monotonic() < until:
            self._freed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._freed.wait(), until - time.monotonic())
        for model in self.loaded.values():
            for pump in model.pumps:
                pump.fail(StoppingError())

    async def close(self) -> None:
        """Free every model."""
        if self._task is not None:
            self._task.cancel()
        work = [self._unload(model) for model in list(self.loaded.values())]
        await asyncio.gather(*work, *self._closing, return_exceptions=True)

"""A server of scripted engines on the loopback interface, and a client that hides nothing."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pitool.catalog.bundles import Runnable
from pitool.engine.base import Engine, Settings
from pitool.engine.scripted import Scripted
from pitool.serve.app import application
from pitool.serve.context import Context
from pitool.serve.models import Models
from pitool.serve.server import Server, listen, quiet
from pitool.serve.shelf import Offer
from pitool.serve.times import FOREVER
from pitool.serve.turns import Loaded

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}
CHAT = "/v1/chat/completions"


class Slow(Scripted):
    """Takes a moment for each word, for real; counts what it gave."""

    def __init__(self, words: int, *, rate: float = 50.0) -> None:
        super().__init__(
            [" ".join(["word"] * words)], decode_rate=rate, prefill_rate=1e6, real_time=True
        )
        self.given = 0

    def stream(self, prompt: Any, sampling: Any) -> Iterator[Any]:
        for token in super().stream(prompt, sampling):
            self.given += 1
            yield token


class Engines:
    """Loads the next engine each time; ``room``: models that fit beside each other."""

    def __init__(self, engines: Sequence[Engine], room: int = 99) -> None:
        self._left = iter(engines)
        self._room = room
        self.loads: list[str] = []

    def check(self, offer: Offer, beside: Sequence[Loaded]) -> None:
        from pitool.errors import DoesNotFit

        if len(beside) >= self._room:
            raise DoesNotFit(f"{offer.id} needs too much", "close other programs")

    def load(self, offer: Offer, beside: Sequence[Loaded]) -> Engine:
        self.loads.append(offer.id)
        return next(self._left)


class Names:
    """A shelf of models by their names alone."""

    def __init__(self, *names: str) -> None:
        self.only = len(names) == 1
        self._offers = [offer(name) for name in names]

    def offers(self) -> list[Offer]:
        return self._offers

    def find(self, name: str | None) -> Offer:
        from pitool.serve.failures import NoSuchModel

        for each in self._offers:
            if self.only or name is None or name in each.names:
                return each
        raise NoSuchModel(f"no {name}", "choose another")


def offer(name: str) -> Offer:
    runnable = Runnable(name, "script", "F32", Path("/"), 4, 2048)
    return Offer(name, "F32", True, 1, 4, lambda: runnable)


class Serving:
    """A server in a thread."""

    def __init__(
        self, context: Context, listening: Any, certificate: tuple[str, str] | None = None
    ) -> None:
        self.context, self.models = context, context.models
        self.port: int = listening.getsockname()[1]
        app = application(context)
        self.server = Server(app, listening, context.models.stop, certificate)
        self.loop: asyncio.AbstractEventLoop

    def run(self) -> None:
        async def serve() -> None:
            self.loop = asyncio.get_running_loop()
            await self.server.serve(sockets=[self.server._listening])
            await self.models.close()

        asyncio.run(serve())

    def wait(self) -> None:
        while not self.server.started:
            time.sleep(0.005)


@contextmanager
def serving(
    *engines: Engine,
    waiting: int = 4,
    key: str | None = None,
    origins: tuple[str, ...] = (),
    names: Sequence[str] = ("tiny",),
    room: int = 99,
    keep: float = FOREVER,
    certificate: tuple[str, str] | None = None,
    log: Callable[[str], object] = lambda _: None,
) -> Iterator[Serving]:
    """Serve engines, the next one each time that a model is loaded."""
    loader = Engines(engines, room)
    models = Models(loader, waiting=waiting, keep=keep)
    context = Context(Names(*names), models, key, origins, log)
    with serving_of(context, certificate) as here:
        yield here


@contextmanager
def serving_of(context: Context, certificate: tuple[str, str] | None = None) -> Iterator[Serving]:
    """Serve what a context has."""
    quiet()
    with listen("127.0.0.1", 0) as listening:
        here = Serving(context, listening, certificate)
        thread = threading.Thread(target=here.run)
        thread.start()
        here.wait()
        try:
            yield here
        finally:
            here.server.stop()
            thread.join()


def ask(
    server: Serving, path: str, body: Any = None, *, method: str = "POST", **headers: str
) -> tuple[int, Any]:
    """Return status and JSON, or the text of a stream."""
    status, _, reply = exchange(server, path, body, method=method, **headers)
    return status, reply


def exchange(
    server: Serving, path: str, body: Any = None, *, method: str = "POST", **headers: str
) -> tuple[int, dict[str, str], Any]:
    """Return status, headers with names in lower case, and JSON or text."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    try:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body)
        connection.request(method, path, data, headers)
        reply = connection.getresponse()
        text = reply.read().decode()
        kind = reply.headers["Content-Type"] or ""
        found = {name.lower(): value for name, value in reply.getheaders()}
        value = json.loads(text) if kind.startswith("application/json") and text else text
        return reply.status, found, value
    finally:
        connection.close()


def events(text: str) -> list[Any]:
    """Return the documents of a stream that ended as it should."""
    lines = text.split("\n\n")
    assert lines.pop() == ""
    assert all(line.startswith("data: ") for line in lines)
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def until(true: Callable[[], bool]) -> None:
    """Wait for something to become true."""
    while not true():
        time.sleep(0.005)


SETTINGS = Settings(context=2048, decode_threads=2, prefill_threads=4)

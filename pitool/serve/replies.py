"""Answers on their way to a client: whole or in pieces, until it has them or is gone.

What makes the pieces knows nothing of connections: it is an asynchronous generator, which is closed
when its client leaves or reads no further.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from anyio import CancelScope
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pitool.errors import PitoolError
from pitool.serve.failures import Failure, failure_of

JSON_TYPE = "application/json; charset=utf-8"
# Seconds of silence after which proxies begin to give up; a board may read a prompt for minutes.
PING_SECONDS = 20.0

Pieces = AsyncGenerator[dict[str, Any]]
"""The documents of an answer: one where it is whole."""


def encode(document: object) -> bytes:
    """Return a document as JSON in UTF-8, without a line feed in it."""
    return json.dumps(document, ensure_ascii=False).encode()


class JSONResponse(Response):
    """A document as JSON."""

    def __init__(
        self, document: object, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(encode(document), status, headers, JSON_TYPE)


def refusal(failure: Failure, path: str) -> JSONResponse:
    """Return an error as the interface of a path has it."""
    return JSONResponse(failure.document(path), failure.status, failure.headers)


@dataclass(frozen=True, slots=True)
class Framing:
    """How a stream carries documents: its media type, a document's bytes, and what ends it.

    ``ping``: a sign of life that no reader sees, where there is one; ``failed``: the document of an
    error in its middle, of a path.
    """

    media_type: str
    frame: Callable[[dict[str, Any]], bytes]
    end: bytes = b""
    ping: bytes = b""
    failed: Callable[[Failure, str], dict[str, Any]] = Failure.document


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + encode(document) + b"\n\n"


def _named_event(document: dict[str, Any]) -> bytes:
    return f"event: {document['type']}\n".encode() + _event(document)


def _failed_event(failure: Failure, path: str) -> dict[str, Any]:
    """Return an error as an event of the responses interface."""
    del path
    return {"type": "error", "code": failure.code, "message": failure.message, "param": None}


_EVENTS = "text/event-stream; charset=utf-8"
_PING = b": the model is at work\n\n"
EVENTS = Framing(_EVENTS, _event, b"data: [DONE]\n\n", _PING)
NAMED_EVENTS = Framing(_EVENTS, _named_event, ping=_PING, failed=_failed_event)
LINES = Framing("application/x-ndjson", lambda document: encode(document) + b"\n")


class Reply(Response):
    """Sends the pieces of an answer; ``framing`` None for one that is whole.

    What goes wrong before the first piece has a status of its own; afterwards it is a piece.
    """

    def __init__(self, pieces: Pieces, framing: Framing | None) -> None:
        self._pieces, self._framing = pieces, framing
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it all, unless the client goes first."""
        with CancelScope() as here:
            watch = asyncio.create_task(_watch(receive, here))
            try:
                async with aclosing(self._pieces) as pieces:
                    if self._framing is None:
                        await _send_whole(pieces, scope, receive, send)
                    else:
                        await _Stream(self._framing, scope, receive, send).send_all(pieces)
            finally:
                watch.cancel()


async def _send_whole(pieces: Pieces, scope: Scope, receive: Receive, send: Send) -> None:
    try:
        response = JSONResponse(await anext(pieces))
    except PitoolError as error:
        response = refusal(_noted(error, scope), scope["path"])
    await response(scope, receive, send)
    await anext(pieces, None)  # what is done when it is sent


class _Stream:
    """Sends pieces as they come, and a sign of life where none comes for long.

    Pieces that come together are sent together: each write wakes the client, on a core that the
    model could use where both are on one machine.
    """

    def __init__(self, framing: Framing, scope: Scope, receive: Receive, send: Send) -> None:
        self._framing, self._scope, self._receive, self._send = framing, scope, receive, send
        self._begun = self._complete = False
        self._held, self._some = b"", asyncio.Event()

    async def send_all(self, pieces: Pieces) -> None:
        """Send all pieces, and what ends them."""
        framing, path = self._framing, self._scope["path"]
        writing = asyncio.create_task(self._write_all())
        try:
            try:
                async for piece in pieces:
                    self._hold(framing.frame(piece))
                end = framing.end
            except PitoolError as error:
                failure = _noted(error, self._scope)
                if not (self._begun or self._held):
                    await refusal(failure, path)(self._scope, self._receive, self._send)
                    return
                end = framing.frame(framing.failed(failure, path))
            self._complete = True
            self._hold(end)
            await writing
        finally:
            writing.cancel()

    def _hold(self, data: bytes) -> None:
        """Have it written as soon as nothing else is to be done."""
        self._held += data
        self._some.set()

    async def _write_all(self) -> None:
        more = True
        while more:
            try:
                async with asyncio.timeout(PING_SECONDS if self._framing.ping else None):
                    await self._some.wait()
            except TimeoutError:
                await self._write(self._framing.ping)
                continue
            self._some.clear()
            data, self._held, more = self._held, b"", not self._complete
            await self._write(data, more=more)

    async def _write(self, data: bytes, *, more: bool = True) -> None:
        if not self._begun:
            self._begun = True
            headers = [
                (b"content-type", self._framing.media_type.encode()),
                (b"cache-control", b"no-cache"),
                (b"x-accel-buffering", b"no"),  # nginx would hold it back
            ]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": data, "more_body": more})


def _noted(error: PitoolError, scope: Scope) -> Failure:
    """Return what an error is for a client; one that is the server's own is logged too."""
    failure = failure_of(error)
    if failure.status == 500:
        scope["app"].state.context.log(f"{scope['path']}: {error.sentence}")
    return failure


async def _watch(receive: Receive, here: CancelScope) -> None:
    """Give an answer up when its client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    here.cancel()

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
from starlette.types import Message, Receive, Scope, Send

from pitool.errors import PitoolError
from pitool.serve.failures import Failure, failure_of

JSON_TYPE = "application/json; charset=utf-8"

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

    ``failed``: the document of an error in its middle, of a path.
    """

    media_type: str
    frame: Callable[[dict[str, Any]], bytes]
    end: bytes = b""
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
EVENTS = Framing(_EVENTS, _event, b"data: [DONE]\n\n")
NAMED_EVENTS = Framing(_EVENTS, _named_event, failed=_failed_event)
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
                    await self._send(pieces, scope, receive, send)
            finally:
                watch.cancel()

    async def _send(self, pieces: Pieces, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            first = await anext(pieces)
        except PitoolError as error:
            failure = _noted(error, scope)
            await refusal(failure, scope["path"])(scope, receive, send)
            return
        if self._framing is None:
            await JSONResponse(first)(scope, receive, send)
            await anext(pieces, None)  # what is done when it is sent
        else:
            await self._stream(first, pieces, self._framing, scope, send)

    async def _stream(
        self, first: dict[str, Any], pieces: Pieces, framing: Framing, scope: Scope, send: Send
    ) -> None:
        headers = [
            (b"content-type", framing.media_type.encode()),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),  # nginx would hold it back
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send(_body(framing.frame(first)))
        end = framing.end
        try:
            async for piece in pieces:
                await send(_body(framing.frame(piece)))
        except PitoolError as error:
            end = framing.frame(framing.failed(_noted(error, scope), scope["path"]))
        await send(_body(end, more=False))


def _noted(error: PitoolError, scope: Scope) -> Failure:
    """Return what an error is for a client; one that is the server's own is logged too."""
    failure = failure_of(error)
    if failure.status == 500:
        scope["app"].state.context.log(f"{scope['path']}: {error.sentence}")
    return failure


def _body(data: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def _watch(receive: Receive, here: CancelScope) -> None:
    """Give an answer up when its client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    here.cancel()

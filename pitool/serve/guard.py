"""What a request must pass before its body is read: its origin, its key, its size."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pitool.serve import pages
from pitool.serve.failures import Failure
from pitool.serve.replies import refusal

MOST_BYTES = 4 << 20
# Seconds for which a client may be silent while its body is read.
PATIENCE = 30
# Seconds and bytes of a refused body that are still taken, so that its sender reads why.
LINGER_SECONDS, LINGER_BYTES = 2, 4 * MOST_BYTES
METHODS = "GET, HEAD, POST, OPTIONS"
# What anybody may read: the page and its files, whether the server is well, what it offers.
OPEN = ("/", "/health", "/openapi.json")
OPEN_FOLDER = "/assets/"


class Origins:
    """Refuses web pages of other sites, and answers what asks for the methods."""

    def __init__(self, app: ASGIApp, *, key: bool, allowed: Collection[str]) -> None:
        self._app, self._key, self._allowed = app, key, allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may come in."""
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        asks = scope["method"] == "OPTIONS"
        try:
            allowed = origin is not None and pages.may_ask(host, origin, self._allowed)
            # A browser asks first by OPTIONS, and is told no by what is not in the answer.
            checked = None if asks and not allowed else origin
            why = pages.refusal(host, checked, key=self._key, allowed=self._allowed)
        except ValueError:
            why = "the Host or Origin header is not valid"
        if why is not None:
            failure = Failure(403, why, code="forbidden_origin")
            await refuse(failure, scope, receive, send)
        elif asks and not (allowed and self._allowed):
            await Response(status_code=204, headers={"Allow": METHODS})(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class Keys:
    """Asks for the key, where there is one, as a bearer token."""

    def __init__(self, app: ASGIApp, *, key: str | None) -> None:
        self._app, self._sent = app, f"Bearer {key}".encode() if key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what has the key, or needs none."""
        path = scope["path"]
        if self._sent is None or path in OPEN or path.startswith(OPEN_FOLDER):
            await self._app(scope, receive, send)
            return
        sent = Headers(scope=scope).get("authorization", "")
        if hmac.compare_digest(sent.encode("latin-1"), self._sent):
            await self._app(scope, receive, send)
        else:
            what = "the API key is missing or wrong"
            failure = Failure(401, what, "authentication_error", "invalid_api_key")
            await refuse(failure, scope, receive, send)


class Bodies:
    """Refuses bodies that are too long, and gives up those that do not come."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request with a body that ends."""
        length = _length(scope)
        if length is not None and length > MOST_BYTES:
            await refuse(_too_long(), scope, receive, send)
            return
        taken, whole = 0, False

        async def bounded() -> Message:
            nonlocal taken, whole
            if whole:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), PATIENCE)
            except TimeoutError:
                raise HTTPException(408, "the body did not come") from None
            taken += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if taken > MOST_BYTES:
                raise HTTPException(413, _too_long().message)
            return message

        await self._app(scope, bounded, send)


def _too_long() -> Failure:
    return Failure(413, f"the body is longer than {MOST_BYTES} bytes")


def _length(scope: Scope) -> int | None:
    """Return the bytes that a body is said to have; None where that is not said."""
    value = Headers(scope=scope).get("content-length")
    return int(value) if value is not None else None


async def refuse(failure: Failure, scope: Scope, receive: Receive, send: Send) -> None:
    """Send an error before the body is read; a long body has its connection closed."""
    headers = Headers(scope=scope)
    response = refusal(failure, scope["path"])
    length = _length(scope) or 0
    if length <= MOST_BYTES and "transfer-encoding" not in headers:
        await response(scope, receive, send)
        return
    response.headers["Connection"] = "close"
    start = {"type": "http.response.start", "status": failure.status}
    await send({**start, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    if "expect" not in headers:
        await _linger(receive)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _linger(receive: Receive) -> None:
    """Take some of a body: one who is still sending sees a reset, not what was answered."""
    taken = 0
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while taken < LINGER_BYTES:
                message = await receive()
                taken += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return

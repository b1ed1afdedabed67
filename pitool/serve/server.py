"""The HTTP server: uvicorn with limits on connections, an end within seconds, and a quiet log.

Connections beyond a number are closed before anything is read of them, and so are those that stay
silent in the middle of a request or of an answer. uvicorn reads HTTP by h11.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from pitool.serve.failures import Failure

MOST_CONNECTIONS = 64
# Seconds for which a connection may be silent.
PATIENCE = 30
# Seconds that running answers have to end, and more in which their clients are told that they
# did not.
GRACE_SECONDS, LAST_SECONDS = 3, 2

log = logging.getLogger(__name__)


class _Deadline:
    """Has something done after ``PATIENCE``, unless it is cleared."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    def set(self, loop: asyncio.AbstractEventLoop, late: Callable[[], object]) -> None:
        if self._timer is None:
            self._timer = loop.call_later(PATIENCE, late)

    def clear(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Connection(H11Protocol):
    """One connection."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._reading, self._writing = _Deadline(), _Deadline()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or close it where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        else:
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """End it."""
        self._reading.clear()
        self._writing.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; the head of a request has to come within a time."""
        super().data_received(data)
        self._expect()

    def _expect(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._reading.clear()
        else:
            self._reading.set(self.loop, self.transport.abort)

    def pause_writing(self) -> None:
        """Wait for a client that reads slowly, and give it up in the end."""
        super().pause_writing()
        self._writing.set(self.loop, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        self._writing.clear()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """Wait for the next request, by uvicorn's own clock."""
        self._reading.clear()
        super().on_response_complete()

    def timeout_keep_alive_handler(self) -> None:
        """End a connection that nobody uses, even if its client takes nothing more."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(PATIENCE, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP in JSON too."""
        error = sys.exception()
        status = getattr(error, "error_status_hint", 400) or 400
        if status == 431 and b"\n" not in self.conn.trailing_data[0]:
            status = 414
        document = Failure(status, f"{msg.rstrip('.')} ({error})" if error else msg).document()
        body = json.dumps(document).encode()
        headers = [
            (b"content-type", b"application/json; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *self.server_state.default_headers,
        ]
        with contextlib.suppress(h11.LocalProtocolError):  # an answer has begun already
            for event in (
                h11.Response(
                    status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode()
                ),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                if data := self.conn.send(event):
                    self.transport.write(data)
        self.transport.close()


class Server(uvicorn.Server):
    """Serves an application at an address, until a signal or ``stop``.

    ``ending`` is awaited when it begins to end: answers that run have so many seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        listening: socket.socket,
        ending: Callable[[float], Any],
        certificate: tuple[str, str] | None = None,
    ) -> None:
        config = uvicorn.Config(
            app,
            http=Connection,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            headers=[("server", "pitool")],
            backlog=2 * MOST_CONNECTIONS,
            timeout_keep_alive=PATIENCE,
            timeout_graceful_shutdown=GRACE_SECONDS + LAST_SECONDS,
            ssl_certfile=certificate[0] if certificate else None,
            ssl_keyfile=certificate[1] if certificate else None,
        )
        super().__init__(config)
        self._listening, self._ending = listening, ending

    async def run_until_stopped(self) -> None:
        """Serve; KeyboardInterrupt where a signal ended it."""
        await self.serve(sockets=[self._listening])

    def stop(self) -> None:
        """Have it end; from any thread."""
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more requests, and let those that run end."""
        ending = asyncio.create_task(self._ending(GRACE_SECONDS))
        await super().shutdown(sockets)
        await ending

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended it."""
        return bool(self._captured_signals)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End by SIGTERM, SIGINT and SIGHUP; those that are ignored stay so.

        A second one does not wait for anybody.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {n: h for n in numbers if (h := signal.getsignal(n)) is not signal.SIG_IGN}
        for number in before:
            signal.signal(number, self.handle_exit)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; OSError for an address that cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(2 * MOST_CONNECTIONS)
    except BaseException:
        made.close()
        raise
    return made


class _FaultsOnly(logging.Handler):
    """Passes on what failed in an application; what clients do wrong is no news."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and isinstance(record.exc_info[1], Exception):
            log.error("a request failed", exc_info=record.exc_info)


def quiet() -> None:
    """Keep uvicorn's and asyncio's words off the terminal."""
    for name in ("uvicorn", "asyncio"):
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.handlers = [_FaultsOnly()]

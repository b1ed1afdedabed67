"""The HTTP side: paths, bodies, streams of events, and clients that go away.

``/v1/chat/completions``, ``/v1/completions``, ``/v1/models`` and ``/health``. Each connection has
a thread; the model is asked by one at a time. Every error has OpenAI's JSON shape.
"""

from __future__ import annotations

import hmac
import json
import logging
import select
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pitool.engine.base import Token
from pitool.errors import BadInput, DoesNotFit, PitoolError, UsageError
from pitool.report.numbers import format_rate
from pitool.serve import pages, requests
from pitool.serve.model import BusyError, Model
from pitool.serve.replies import Frame, failure

MOST_BYTES = 4 << 20
# Each has a thread and up to that many bytes.
MOST_CONNECTIONS = 64
# Seconds for which a connection may be silent while a request is read.
PATIENCE = 30
PATHS = {"/v1/chat/completions": True, "/v1/completions": False}
_INVALID = "invalid_request_error"
# Status, OpenAI's type and its code; the first that an error is counts.
_STATUS: dict[type[PitoolError], tuple[HTTPStatus, str, str | None]] = {
    BusyError: (HTTPStatus.SERVICE_UNAVAILABLE, "server_error", "server_busy"),
    UsageError: (HTTPStatus.BAD_REQUEST, _INVALID, None),
    BadInput: (HTTPStatus.BAD_REQUEST, _INVALID, None),
    DoesNotFit: (HTTPStatus.BAD_REQUEST, _INVALID, "context_length_exceeded"),
}


class Server(ThreadingHTTPServer):
    """Serves one model under ``name``; with ``key`` only those who send it as bearer token.

    ``load`` is called when the port is taken, since a model may take a minute; who connects
    meanwhile waits. Raises OSError for an address that cannot be listened on.
    """

    daemon_threads = True

    def __init__(
        self,
        address: tuple[str, int],
        load: Callable[[], Model],
        name: str,
        key: str | None = None,
        log: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.name, self.key, self.log = name, key, log
        # Parsed JSON takes thirty times its size for a moment: one at a time.
        self.parsing = threading.Lock()
        self._places = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self.created = int(time.time())
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, Handler)
        try:
            self.model = load()
        except BaseException:
            self.server_close()
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread of its own, or close it where there are too many."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a connection to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - its interface
        """Log what a connection ended with that nobody foresaw; a client that went away is none."""
        error = sys.exception()
        if not isinstance(error, OSError):
            self.log(f"internal error ({type(error).__name__}: {error})")
            logging.getLogger(__name__).error("a request failed", exc_info=error)

    def __exit__(self, *reason: Any) -> None:
        """Free the port and the model."""
        super().__exit__(*reason)
        self.model.close()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "pitool", ""
    timeout = PATIENCE

    def do_GET(self) -> None:
        """Answer what only looks."""
        server, path = self.server, self._path
        own = {
            "id": server.name, "object": "model", "created": server.created, "owned_by": "pitool",
        }  # fmt: skip
        if self._refused():
            return
        if path == "/health":
            state = {"busy": server.model.busy, "waiting": server.model.waiting}
            self._json(HTTPStatus.OK, {"status": "ok", **state})
        elif not self._allowed():
            return
        elif path == "/v1/models":
            self._json(HTTPStatus.OK, {"object": "list", "data": [own]})
        elif path == f"/v1/models/{server.name}":
            self._json(HTTPStatus.OK, own)
        else:
            self._missing()

    def do_POST(self) -> None:
        """Answer a completion."""
        body = self._body()
        if body is None or self._refused() or not self._allowed():
            return
        if self._path not in PATHS:
            self._missing()
            return
        try:
            self._complete(body, chat=PATHS[self._path])
        except PitoolError as error:
            self._fail(error)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.close_connection = True  # the client went away

    def _complete(self, body: bytes, *, chat: bool) -> None:
        server = self.server
        template = server.model.info.chat_template
        with server.parsing:
            asked = requests.parse(body, chat=chat, template=template)
        prefix = "chatcmpl" if chat else "cmpl"
        frame = Frame(chat, f"{prefix}-{uuid.uuid4().hex}", int(time.time()), server.name)
        with server.model.turn(self._gone) as engine:
            try:
                with closing(self._watched(engine.stream(asked.prompt, asked.sampling))) as tokens:
                    if asked.stream:
                        self._stream(tokens, frame, usage=asked.usage)
                    else:
                        self._whole(tokens, frame)
            except PitoolError as error:
                server.model.forget(error)
                raise

    def _watched(self, tokens: Iterator[Token]) -> Generator[Token]:
        """Yield tokens until the client is gone, which cancels the rest."""
        try:
            for token in tokens:
                yield token
                if self._gone():
                    raise ConnectionResetError
        finally:
            if isinstance(tokens, Generator):
                tokens.close()

    def _gone(self) -> bool:
        """Tell whether the client closed its side: nothing else makes it readable and empty."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    def _whole(self, tokens: Iterator[Token], frame: Frame) -> None:
        text, last = [], None
        for last in tokens:
            text.append(last.text)
        assert last
        self._json(HTTPStatus.OK, frame.whole("".join(text), last.finish, last.timings))
        self._say(last)

    def _stream(self, tokens: Iterator[Token], frame: Frame, *, usage: bool) -> None:
        """Send events as tokens come; an error after the first one is an event too."""
        first = next(tokens)  # what is wrong with the prompt still gets a status of its own
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        last = first
        try:
            if frame.chat:
                self._event(frame.piece(None))
            self._token(first, frame)
            for last in tokens:
                self._token(last, frame)
        except PitoolError as error:
            self.server.model.forget(error)
            self._event(failure(error.sentence, "server_error"))
            return
        if usage:
            self._event(frame.count(last.timings))
        self.wfile.write(b"data: [DONE]\n\n")
        self._say(last)

    def _token(self, token: Token, frame: Frame) -> None:
        if token.text:
            self._event(frame.piece(token.text))
        if token.finish:
            self._event(frame.piece("", token.finish))

    def _event(self, document: dict[str, Any]) -> None:
        text = json.dumps(document, ensure_ascii=False)
        self.wfile.write(f"data: {text}\n\n".encode())
        self.wfile.flush()

    # -- what is around ------------------------------------------------------------------------

    @property
    def _path(self) -> str:
        """The path without a query, however it is written."""
        return self.path.partition("?")[0]

    def _body(self) -> bytes | None:
        """Return the body, None after saying why there is none."""
        length = self.headers.get("Content-Length", "")
        known = length.isdecimal() and "Transfer-Encoding" not in self.headers
        if not known or len(length) > len(str(MOST_BYTES)) or int(length) > MOST_BYTES:
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if known else HTTPStatus.LENGTH_REQUIRED
            self.close_connection = True  # the body is not read
            what = f"the body needs a Content-Length of at most {MOST_BYTES} bytes"
            self._json(status, failure(what, _INVALID))
            return None
        return self.rfile.read(int(length))

    def _refused(self) -> bool:
        """Answer a web page that is not this server's, and tell whether it was one."""
        try:
            host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
            why = pages.refusal(host, origin, key=self.server.key is not None)
        except ValueError:
            why = "the Host or Origin header is not valid"
        if why is not None:
            self._json(HTTPStatus.FORBIDDEN, failure(why, _INVALID, "forbidden_origin"))
        return why is not None

    def _allowed(self) -> bool:
        key = self.server.key
        sent = self.headers.get("Authorization", "")
        if key is None or hmac.compare_digest(sent.encode(), f"Bearer {key}".encode()):
            return True
        what = "the API key is missing or wrong"
        document = failure(what, "authentication_error", "invalid_api_key")
        self._json(HTTPStatus.UNAUTHORIZED, document)
        return False

    def _missing(self) -> None:
        known = ", ".join(("/health", "/v1/models", *PATHS))
        what = f"unknown endpoint {self.command} {self._path}; use one of {known}"
        self._json(HTTPStatus.NOT_FOUND, failure(what, _INVALID))

    def _fail(self, error: PitoolError) -> None:
        status, kind, code = next(
            (row for cls, row in _STATUS.items() if isinstance(error, cls)),
            (HTTPStatus.INTERNAL_SERVER_ERROR, "server_error", None),
        )
        self._json(status, failure(error.sentence, kind, code))

    def _json(self, status: HTTPStatus, document: dict[str, Any]) -> None:
        body = json.dumps(document, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            self.send_header("Retry-After", "5")
        self.end_headers()
        self.wfile.write(body)

    def _say(self, last: Token) -> None:
        t = last.timings
        self.server.log(
            f"{self._path}: prompt {t.prompt_tokens} tokens ({t.reused_tokens} reused),"
            f" {format_rate(t.prefill_rate)}, answer {t.decoded_tokens} tokens,"
            f" {format_rate(t.decode_rate)}"
        )

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what http.server refuses by itself (a method, a malformed head)."""
        self.close_connection = True
        what = explain or message or HTTPStatus(code).description
        self._json(HTTPStatus(code), failure(what, _INVALID))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing of each request: ``_say`` does, and prompts stay out of logs."""

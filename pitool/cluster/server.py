"""A board of a cluster: llama.cpp's RPC server in a process of its own, and its status over HTTP.

The server computes whatever a client asks for, and a wrong message or too large a model ends its
process: it is started again, and the status says how often.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO, Any

from pitool.cluster import hello, status
from pitool.cluster.members import STATUS_ABOVE
from pitool.cluster.tensor_cache import TensorCache
from pitool.errors import MissingPart, PitoolError, UsageError

Say = Callable[[str], object]
# A server that has ended so often within so many seconds is not started again.
MOST_ENDS, WITHIN_SECONDS = 5, 60.0
START_SECONDS = 30.0
GLANCE = 0.1
LARGEST = 64 << 20
_ACCEPTED, _CLOSED = "Accepted client connection", "Client connection closed"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a board listens: an IPv4 address and a port; its status at the port above."""

    host: str
    port: int

    @property
    def address(self) -> str:
        """Address and port as llama.cpp takes them."""
        return f"{self.host}:{self.port}"

    @property
    def own_host(self) -> str:
        """The address by which this machine reaches it."""
        return "127.0.0.1" if self.host == "0.0.0.0" else self.host  # noqa: S104 - compared


class BoardServer:
    """Serves this machine while it runs; ``cache`` None keeps no tensors."""

    def __init__(self, place: Place, threads: int, cache: TensorCache | None, say: Say) -> None:
        self._place, self._threads, self._cache, self._say = place, threads, cache, say
        self._looker = status.Looker()
        self._clients = self._restarts = 0
        self._ready = False
        self._process: subprocess.Popen[str] | None = None
        self._ended = threading.Event()
        self._http = _listen(place, self)
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close

    def status(self) -> status.Status:
        """Return how this board is now."""
        kept = self._cache.bytes if self._cache else 0
        return self._looker.look(
            ready=self._ready,
            client=self._clients > 0,
            restarts=self._restarts,
            cache_bytes=kept,
        )

    def run(self, ready: Callable[[], object]) -> None:
        """Serve until this is interrupted; ``ready`` is called once the server answers.

        Raises what keeps the server from starting, or from staying.
        """
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        try:
            self._keep_serving(ready)
        finally:
            self.close()

    def _keep_serving(self, ready: Callable[[], object]) -> None:
        """Start the server again and again, unless it ends at once."""
        ends: list[float] = []
        while not self._ended.is_set():
            self._start()
            self._ready = self._answers()
            if not ends:
                self._require_answer()
                ready()
            self._follow()
            self._ready = False
            ends = [t for t in ends if t > time.monotonic() - WITHIN_SECONDS] + [time.monotonic()]
            if len(ends) >= MOST_ENDS:
                raise PitoolError(f"the server keeps ending ({self._reason()})", "see doctor")
            self._restarts += 1
            self._say(f"the server ended ({self._reason()}) and is started again")

    def close(self) -> None:
        """End everything; once."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._release()
        self._http.shutdown()
        self._http.server_close()
        self._errors.close()

    def _start(self) -> None:
        words = [self._place.address, str(self._threads)]
        if self._cache is not None:
            self._cache.prepare()
            words.append(str(self._cache.folder))
        self._errors.seek(0)
        self._errors.truncate()
        self._clients = 0
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pitool.cluster.rpc_main", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            errors="replace",
            # Ctrl-C belongs to this process. Not a session of its own: Linux shares a busy CPU out
            # by sessions, and a token that goes through several waits for each.
            process_group=0,
            env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        )

    def _answers(self) -> bool:
        """Wait until the server answers; False where it ends, or never does."""
        assert self._process
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            try:
                hello.greet(self._place.own_host, self._place.port)
            except (OSError, ValueError):
                time.sleep(GLANCE)
            else:
                return True
        return False

    def _require_answer(self) -> None:
        """Raise why the server does not answer, where it does not."""
        assert self._process
        if self._ready:
            return
        code = self._process.poll()
        if code is None:
            raise PitoolError("llama.cpp's server does not answer", "see pitool doctor")
        what, _, do = self._reason().partition("; ")
        raise (MissingPart if code == MissingPart.exit_code else PitoolError)(what, do)

    def _follow(self) -> None:
        """Count clients by what the server prints, until it ends."""
        assert self._process and self._process.stdout
        self._count_clients(self._process.stdout)
        self._release()

    def _release(self) -> None:
        """End the server's process, where there is one, and close its pipes."""
        if self._process is not None:
            self._process.kill()
            with self._process:
                pass

    def _count_clients(self, lines: IO[str]) -> None:
        for line in lines:
            if line.startswith(_ACCEPTED):
                self._clients += 1
            elif line.startswith(_CLOSED):
                self._clients = max(self._clients - 1, 0)
                if self._cache is not None:
                    self._cache.settle(time.time_ns())

    def _reason(self) -> str:
        """Return the last line that the server wrote to stderr, or how it ended."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        assert self._process
        return lines[-1].strip().rstrip(".") if lines else f"code {self._process.returncode}"


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    board: BoardServer


class _Handler(BaseHTTPRequestHandler):
    """Tells the status, and gives and takes bytes that measure the link."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # header and body in one packet: the latency is measured here
    disable_nagle_algorithm = True
    timeout = 60
    server: _Http

    def do_GET(self) -> None:
        """Answer with the status, nothing, or bytes."""
        if self.path == "/status":
            self._answer(status.to_json(self.server.board.status()), "application/json")
        elif self.path == "/nothing":
            self._answer(b"")
        elif self.path.startswith("/bytes/") and self.path[7:].isdecimal():
            self._answer(bytes(min(int(self.path[7:]), LARGEST)))
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        """Take bytes and forget them."""
        size = self.headers.get("Content-Length", "")
        if self.path != "/bytes" or not size.isdecimal() or int(size) > LARGEST:
            self.send_error(404)
            return
        left = int(size)
        while left and (part := self.rfile.read(min(left, 1 << 16))):
            left -= len(part)
        self._answer(b"")

    def _answer(self, body: bytes, kind: str = "application/octet-stream") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's
        """Say nothing: a board is looked at every few seconds."""


def _listen(place: Place, board: BoardServer) -> _Http:
    try:
        server = _Http((place.host, place.port + STATUS_ABOVE), _Handler)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {place.host} port {place.port + STATUS_ABOVE}"
            f" ({error.strerror or error})",
            "set --host to an address of this machine, or choose another --port",
        ) from None
    server.board = board
    return server

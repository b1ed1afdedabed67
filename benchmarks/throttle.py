"""A slow network in a process: a TCP proxy with the latency and rate of a link, which it counts.

For machines whose kernel has no netem. Each direction has the whole rate, as Ethernet has.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from pitool.planning.cluster import Link

# A burst larger than this is passed on in parts, as a network card would.
PART = 1 << 16
FREE = Link(0.0, float("inf"))


@dataclass
class Counted:
    """Bytes that went to the target and came back, and how many connections were made."""

    there: int = 0
    back: int = 0
    connections: int = 0


@contextmanager
def throttled(target: tuple[str, int], link: Link = FREE, port: int = 0) -> Iterator[Proxy]:
    """Give a proxy to an address that behaves like a link."""
    proxy = Proxy(target, link, port)
    try:
        yield proxy
    finally:
        proxy.close()


class Proxy:
    """Listens on the loopback interface; ``port`` 0 takes a free one."""

    def __init__(self, target: tuple[str, int], link: Link = FREE, port: int = 0) -> None:
        self._target, self._link = target, link
        self.counted = Counted()
        self._sockets: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Cut every connection."""
        for each in (self._listening, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
                server = socket.create_connection(self._target)
            except OSError:
                return
            self.counted.connections += 1
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets.append(each)
            for source, sink, name in ((client, server, "there"), (server, client, "back")):
                self._direction(source, sink, name)

    def _direction(self, source: socket.socket, sink: socket.socket, name: str) -> None:
        """Pass on what comes, each part when its last byte would have arrived."""
        held: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

        def receive() -> None:
            free = 0.0
            data = b"first"
            while data:
                try:
                    data = source.recv(PART)
                except OSError:
                    data = b""
                now = time.perf_counter()
                free = max(free, now) + len(data) / self._link.rate
                setattr(self.counted, name, getattr(self.counted, name) + len(data))
                held.put((free + self._link.latency / 2, data))

        def send() -> None:
            while True:
                due, data = held.get()
                if (wait := due - time.perf_counter()) > 0:
                    time.sleep(wait)
                with suppress(OSError):
                    if not data:
                        sink.shutdown(socket.SHUT_WR)
                        return
                    sink.sendall(data)
                    continue
                return

        for function in (receive, send):
            threading.Thread(target=function, daemon=True).start()

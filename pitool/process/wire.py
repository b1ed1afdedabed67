"""Messages between a process and its parent: JSON lines with binary payloads over two pipes.

A message is one line of JSON; where it has ``payload``, so many raw bytes follow the line.
Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import select
import threading
from collections.abc import Callable, Mapping
from io import RawIOBase
from typing import Any, NamedTuple

from pitool import errors

LOOK_SECONDS = 0.25
"""How often somebody is asked whether a wait is to go on."""
_BLOCK = 1 << 16
_ERRORS = {
    cls.__name__: cls
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, errors.PitoolError)
}


class Received(NamedTuple):
    """A message and the raw bytes that came with it."""

    message: dict[str, Any]
    payload: bytes | bytearray


Waiting = Callable[[], object]
"""Is called every ``LOOK_SECONDS`` of a wait for the other side, and ends it by what it raises."""


class Wire:
    """One end of a conversation; both directions may be used from any thread.

    Both streams are unbuffered, so that closing one has nothing to write and never blocks.
    """

    def __init__(self, incoming: RawIOBase, outgoing: RawIOBase) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._receiving, self._sending = threading.Lock(), threading.Lock()
        self._received = bytearray()

    def send(
        self, message: Mapping[str, Any], payload: bytes = b"", waiting: Waiting | None = None
    ) -> None:
        """Write one message; OSError or ValueError when the wire is closed on either side."""
        data = dict(message, payload=len(payload)) if payload else message
        with self._sending:
            for part in (_line(data), payload):
                view = memoryview(part)
                while view:
                    _wait(self._outgoing, select.POLLOUT, waiting)
                    view = view[self._outgoing.write(view[:_BLOCK]) or 0 :]

    def try_to_send(self, message: Mapping[str, Any]) -> None:
        """Write a short message if the other side has room for it at this moment; never blocks.

        OSError or ValueError when the wire is closed.
        """
        if not self._sending.acquire(blocking=False):
            return
        try:
            if _ready(self._outgoing, select.POLLOUT, 0.0):
                self._outgoing.write(_line(message))  # a pipe takes so little as a whole
        finally:
            self._sending.release()

    def receive(self, waiting: Waiting | None = None) -> Received | None:
        """Return the next message; None when the other side is gone."""
        with self._receiving:
            looked = 0
            while (end := self._received.find(b"\n", looked)) < 0:
                looked = len(self._received)
                _wait(self._incoming, select.POLLIN, waiting)
                new = self._incoming.read(_BLOCK)
                if not new:
                    return None
                self._received += new
            message = json.loads(self._received[: end + 1])  # noqa: TID251 - both ends are ours
            del self._received[: end + 1]
            payload = bytearray(message.pop("payload", 0))
            return Received(message, payload) if self._fill(payload, waiting) else None

    def _fill(self, payload: bytearray, waiting: Waiting | None) -> bool:
        """Read a payload of its size, which may be large; False where the end comes before."""
        have = min(len(self._received), len(payload))
        payload[:have] = self._received[:have]
        del self._received[:have]
        left = memoryview(payload)[have:]
        while left:
            _wait(self._incoming, select.POLLIN, waiting)
            size = self._incoming.readinto(left)
            if not size:
                return False
            left = left[size:]
        return True

    def hang_up(self) -> bool:
        """Close the outgoing side, which the other one sees as the end; never blocks.

        False where a message is being written at this moment: the other side does not read.
        """
        if not self._sending.acquire(blocking=False):
            return False
        try:
            self._outgoing.close()
        finally:
            self._sending.release()
        return True

    def close(self, patience: float) -> None:
        """Close both sides, each as soon as no thread is in it; after ``patience`` leave it open.

        Closing a pipe that another thread reads or writes would block, or hit another file.
        """
        for lock, stream in ((self._sending, self._outgoing), (self._receiving, self._incoming)):
            if lock.acquire(timeout=patience):
                try:
                    stream.close()
                finally:
                    lock.release()


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def _wait(stream: RawIOBase, event: int, waiting: Waiting | None) -> None:
    """Return when a stream can be read or written without blocking."""
    while not _ready(stream, event, LOOK_SECONDS if waiting else None):
        assert waiting  # else it is waited for without an end
        waiting()


def _ready(stream: RawIOBase, event: int, seconds: float | None) -> bool:
    look = select.poll()
    look.register(stream.fileno(), event)
    return bool(look.poll(None if seconds is None else seconds * 1000))


def error_to_json(error: errors.PitoolError) -> dict[str, str]:
    """Return an error as JSON values."""
    return {"kind": type(error).__name__, "what": error.what, "do": error.do}


def error_from_json(value: Mapping[str, str]) -> errors.PitoolError:
    """Return the error that ``error_to_json`` wrote."""
    return _ERRORS.get(value["kind"], errors.PitoolError)(value["what"], value["do"])

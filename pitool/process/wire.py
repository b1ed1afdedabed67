"""Messages between a process and its parent: JSON lines with binary payloads over two pipes.

A message is one line of JSON; where it has ``payload``, so many raw bytes follow the line.
Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from io import RawIOBase
from typing import Any, BinaryIO, NamedTuple

from pitool import errors

_ERRORS = {
    cls.__name__: cls
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, errors.PitoolError)
}


class Received(NamedTuple):
    """A message and the raw bytes that came with it."""

    message: dict[str, Any]
    payload: bytes


class Wire:
    """One end of a conversation; both directions may be used from any thread.

    ``outgoing`` is unbuffered, so that closing it has nothing to write and never blocks.
    """

    def __init__(self, incoming: BinaryIO, outgoing: RawIOBase) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._receiving, self._sending = threading.Lock(), threading.Lock()

    def send(self, message: Mapping[str, Any], payload: bytes = b"") -> None:
        """Write one message; OSError or ValueError when the wire is closed on either side."""
        data = dict(message, payload=len(payload)) if payload else message
        line = json.dumps(data, separators=(",", ":")).encode() + b"\n"
        with self._sending:
            self._write(line)
            if payload:
                self._write(payload)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._outgoing.write(view) or 0 :]

    def receive(self) -> Received | None:
        """Return the next message; None when the other side is gone."""
        with self._receiving:
            line = self._incoming.readline()
            if not line.endswith(b"\n"):
                return None
            message = json.loads(line)  # noqa: TID251 - both ends are ours
            size = message.pop("payload", 0)
            payload = self._incoming.read(size) if size else b""
            return Received(message, payload) if len(payload) == size else None

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


def error_to_json(error: errors.PitoolError) -> dict[str, str]:
    """Return an error as JSON values."""
    return {"kind": type(error).__name__, "what": error.what, "do": error.do}


def error_from_json(value: Mapping[str, str]) -> errors.PitoolError:
    """Return the error that ``error_to_json`` wrote."""
    return _ERRORS.get(value["kind"], errors.PitoolError)(value["what"], value["do"])

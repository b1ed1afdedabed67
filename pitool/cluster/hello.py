"""The beginning of llama.cpp's RPC protocol: which version a server speaks, before it is trusted.

llama.cpp's own client aborts its process where a server does not answer or speaks another version.
Knows the handshake and the question for memory, nothing else of the protocol.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

# RPC_PROTO_MAJOR_VERSION and RPC_PROTO_MINOR_VERSION of the pinned llama.cpp: a server may be of a
# lower minor version, never of another major one (ggml-rpc.cpp, negotiate_hello).
MAJOR, MINOR = 7, 0
SECONDS = 5.0
_HELLO, _MEMORY = 14, 11
_CAPABILITIES = bytes(24)  # none: TCP as it is
_SIZE = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Hello:
    """What a server says of itself; memory of its first device in bytes."""

    version: tuple[int, int, int]
    free: int
    total: int

    @property
    def speaks(self) -> bool:
        """Whether this llama.cpp's client understands it."""
        return self.version[0] == MAJOR and self.version[1] <= MINOR

    @property
    def version_text(self) -> str:
        """The version as people write it."""
        return ".".join(map(str, self.version))


def greet(host: str, port: int, seconds: float = SECONDS) -> Hello:
    """Return what the server at an address says.

    OSError where none answers in time, which a server that is busy does not either; ValueError for
    an answer that is not of this protocol.
    """
    with socket.create_connection((host, port), timeout=seconds) as connection:
        answer = _ask(connection, _HELLO, _CAPABILITIES, 28)
        version = answer[0], answer[1], answer[2]
        if version[0] != MAJOR:  # whose other messages may be different ones
            return Hello(version, 0, 0)
        memory = _ask(connection, _MEMORY, struct.pack("<I", 0), 16)
        free, total = struct.unpack("<QQ", memory)
        return Hello(version, free, total)


def _ask(connection: socket.socket, command: int, body: bytes, expected: int) -> bytes:
    """Return the answer to a command, of so many bytes; other versions say hello with fewer."""
    connection.sendall(bytes([command]) + _SIZE.pack(len(body)) + body)
    (size,) = _SIZE.unpack(_receive(connection, _SIZE.size))
    if not (size == expected or (command == _HELLO and 3 <= size < expected)):
        raise ValueError("it does not speak llama.cpp's RPC protocol")
    return _receive(connection, size)


def _receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise ConnectionError("the server closed the connection")
        data += part
    return data

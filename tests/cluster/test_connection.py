"""A board that cannot be used is one sentence, before llama.cpp would abort; pretended servers."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pitool.cluster import hello, status
from pitool.cluster.connection import Way, find_way, look, look_free, reach
from pitool.cluster.members import Member
from pitool.cluster.status import Status
from pitool.errors import PitoolError, UsageError
from tests.cluster import backend

pytestmark = [pytest.mark.network, pytest.mark.timeout(60)]

MINE = Status("0.1", status.llama_cpp_version(), "a board", "pi5", 4, room=1 << 30)


@contextmanager
def serving_status(text: bytes) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def serving_rpc(*answers: bytes) -> Iterator[int]:
    """Answer each question of a connection in turn, as llama.cpp's server does; then close."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        try:
            while True:
                client, _ = listening.accept()
                with client:
                    for answer in answers:
                        client.recv(4096)
                        client.sendall(struct.pack("<Q", len(answer)) + answer)
        except OSError:
            return

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.close()


def hello_of(major: int, minor: int) -> bytes:
    return bytes([major, minor, 0, 0]) + bytes(24)


MEMORY = struct.pack("<QQ", 3 << 30, 4 << 30)
UNHEARD = 1  # a port that only root could listen on


def way(rpc: int, told: int = UNHEARD) -> Way:
    return Way(Member("pi@attic"), "127.0.0.1", rpc, told)


def test_the_version_is_that_of_the_pinned_llama_cpp() -> None:
    if backend.SDIST is None:
        pytest.skip("PITOOL_LLAMA_CPP_SDIST names no sources")
    text = (Path(backend.SDIST) / "vendor/llama.cpp/ggml/include/ggml-rpc.h").read_text()
    found = dict(re.findall(r"RPC_PROTO_(M\w+)_VERSION +(\d+)", text))
    assert (int(found["MAJOR"]), int(found["MINOR"])) == (hello.MAJOR, hello.MINOR)
    source = (Path(backend.SDIST) / "vendor/llama.cpp/ggml/src/ggml-rpc/ggml-rpc.cpp").read_text()
    assert "const size_t HASH_THRESHOLD = 10 * 1024 * 1024;" in source
    commands = source.partition("enum rpc_cmd {")[2].partition("}")[0]
    names = re.findall(r"RPC_CMD_(\w+)", commands)
    assert (names.index("HELLO"), names.index("GET_DEVICE_MEMORY")) == (14, 11)


def test_a_server_of_llama_cpp_itself_will_do() -> None:
    with serving_rpc(hello_of(7, 0), MEMORY) as port:
        board = look(way(port))
    assert board.status is None
    assert board.room == 3 << 30


@pytest.mark.parametrize(("major", "minor", "speaks"), [(7, 0, True), (7, 1, False), (6, 9, False)])
def test_another_version_of_the_protocol_is_refused(major: int, minor: int, speaks: bool) -> None:
    with serving_rpc(hello_of(major, minor), MEMORY) as port:
        if speaks:
            assert look(way(port)).hello
            return
        with pytest.raises(PitoolError, match=f"pi@attic speaks version {major}.{minor}.0 of"):
            look(way(port))


def test_another_llama_cpp_is_refused_although_it_speaks_the_protocol() -> None:
    other = asdict(MINE) | {"llama_cpp": "0.3.1"}
    with (
        serving_rpc(hello_of(7, 0), MEMORY) as port,
        serving_status(json.dumps(other).encode()) as told,
        pytest.raises(PitoolError, match=r"pi@attic has llama-cpp-python 0.3.1, and this machine"),
    ):
        look(way(port, told))


def test_a_board_that_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pitool.cluster.connection.FREE_SECONDS", 0.3)
    used = status.to_json(MINE).replace(b'"client": false', b'"client": true')
    with serving_status(used) as told:
        assert look(way(UNHEARD, told)).hello is None
        with pytest.raises(PitoolError, match="pi@attic already computes for another program"):
            look_free(way(UNHEARD, told))


def test_a_status_of_a_newer_pitool_is_read() -> None:
    newer = asdict(MINE) | {"mood": "good"}
    assert status.from_json(json.dumps(newer).encode()) == MINE


@pytest.mark.thorough
@pytest.mark.parametrize("said", [b"", b"[]", b"{}", b"no", b'{"features": 3}', b"[" * 9999])
def test_what_is_no_status_counts_as_none(said: bytes) -> None:
    with serving_rpc(hello_of(7, 0), MEMORY) as port, serving_status(said) as told:
        assert look(way(port, told)).status is None


@pytest.mark.parametrize("answers", [(), (b"x",), (b"x" * 2000,), (hello_of(7, 0), b"x")])
def test_what_does_not_speak_the_protocol_is_one_sentence(answers: tuple[bytes, ...]) -> None:
    with serving_rpc(*answers) as port, pytest.raises(PitoolError, match="does not answer") as said:
        look(way(port))
    assert "pitool cluster serve" in said.value.sentence


def test_a_board_that_is_not_there() -> None:
    with pytest.raises(PitoolError, match="pi@attic does not answer"):
        look(way(UNHEARD))


def test_a_name_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    with pytest.raises(PitoolError, match=r"attic has no IPv4 address here \(Name or service"):
        find_way(Member("pi@attic"))


def test_a_cluster_without_boards() -> None:
    with pytest.raises(UsageError, match="no boards"):
        reach([])

"""``pitool cluster serve``: where it listens, what it tells, and what it does without a backend."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pitool.cli.commands import cli
from pitool.cluster import server, status
from pitool.cluster.server import BoardServer, Place
from pitool.cluster.tensor_cache import TensorCache
from pitool.errors import MissingPart, UsageError
from tests.cluster import backend
from tests.cluster.boards import free_port

pytestmark = [pytest.mark.network, pytest.mark.timeout(120)]


@pytest.fixture
def board(tmp_path: Path) -> Iterator[tuple[BoardServer, int]]:
    """A board whose status is served, without a server of llama.cpp."""
    port = free_port()
    cache = TensorCache(tmp_path / "tensors")
    cache.prepare()
    made = BoardServer(Place("127.0.0.1", port), 1, cache, lambda _: None)
    threading.Thread(target=made._http.serve_forever, daemon=True).start()
    yield made, port + 1
    made.close()


def test_a_board_tells_how_it_is(board: tuple[BoardServer, int]) -> None:
    told = status.fetch("127.0.0.1", board[1])
    assert told.llama_cpp == status.llama_cpp_version()
    assert told.mem_total and told.mem_available and told.room
    assert told.room < told.mem_available <= told.mem_total
    assert not told.client
    assert told.cache_bytes == 0


def test_the_link_is_measured(board: tuple[BoardServer, int]) -> None:
    link = status.measure("127.0.0.1", board[1], count=1 << 20)
    assert link.latency > 0
    assert link.rate > 0


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("method", "path", "length"),
    [
        ("GET", "/", None),
        ("GET", "/bytes/many", None),
        ("GET", "/etc/passwd", None),
        ("POST", "/status", "0"),
        ("POST", "/bytes", str(1 << 40)),
        ("POST", "/bytes", "many"),
        ("PUT", "/bytes", "0"),
    ],
)
def test_nothing_else_is_answered(
    board: tuple[BoardServer, int], method: str, path: str, length: str | None
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", board[1], timeout=10)
    connection.putrequest(method, path)
    if length:
        connection.putheader("Content-Length", length)
    connection.endheaders()
    assert connection.getresponse().status in (404, 501)
    connection.close()


def listened(monkeypatch: pytest.MonkeyPatch, *words: str) -> Place | str:
    """Return where a board would listen, or what is said instead."""
    places: list[Place] = []

    class Pretended:
        def __init__(self, place: Place, *_: object) -> None:
            places.append(place)

        def run(self, _: object) -> None: ...

    monkeypatch.setattr(server, "BoardServer", Pretended)
    done = CliRunner().invoke(cli, ["cluster", "serve", *words])
    return places[0] if places else str(done.exception)


def test_only_this_machine_is_listened_to_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for words in ((), ("--via", "ssh")):
        assert listened(monkeypatch, *words) == Place("127.0.0.1", 50052)
    assert listened(monkeypatch, "--host", "0.0.0.0", "--port", "6000") == Place("0.0.0.0", 6000)
    both = listened(monkeypatch, "--via", "ssh", "--host", "0.0.0.0")
    assert "drop --host" in str(both)
    assert "is not an IPv4 address" in str(listened(monkeypatch, "--host", "::1"))


def test_a_port_that_is_taken_is_one_sentence() -> None:
    port = free_port()
    with (
        socket.create_server(("127.0.0.1", port + 1)),
        pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1 port {port + 1}"),
    ):
        BoardServer(Place("127.0.0.1", port), 1, None, lambda _: None)


@pytest.mark.engine
def test_without_the_backend_it_is_said_what_is_missing() -> None:
    if list(backend.installed().glob("libggml-rpc.*")):
        pytest.skip("the installed llama.cpp has the backend")
    board = BoardServer(Place("127.0.0.1", free_port()), 1, None, lambda _: None)
    with pytest.raises(MissingPart, match="built without its RPC backend") as caught:
        board.run(lambda: None)
    assert "./install.sh" in caught.value.do

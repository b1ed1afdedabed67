"""Ports of a board's loopback interface, against a real sshd."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator

import pytest

from pitool.errors import PitoolError
from pitool.remote import tunnel
from pitool.remote.tunnel import close_all, open_tunnel
from tests.remote.sshd import Board, needs_sshd
from tests.remote.sshd import board as board

pytestmark = needs_sshd


@pytest.fixture(autouse=True)
def no_tunnels() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture
def echoing() -> Iterator[int]:
    """A port of the board that gives back what it gets."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        try:
            while True:
                client, _ = listening.accept()
                with client:
                    client.sendall(client.recv(100))
        except OSError:
            return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()


def echo(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"hello")
        return connection.recv(100)


def test_a_port_is_reached_and_a_broken_tunnel_is_opened_anew(board: Board, echoing: int) -> None:
    first = open_tunnel(board.host, [echoing, echoing])
    assert [echo(port) for port in first.ports] == [b"hello", b"hello"]
    assert open_tunnel(board.host, [echoing, echoing]) is first
    first.process.kill()
    first.process.wait()
    second = open_tunnel(board.host, [echoing, echoing])
    assert second is not first
    assert echo(second.ports[0]) == b"hello"


def test_what_ssh_says_is_one_sentence(board: Board) -> None:
    config = board.folder / "config"
    config.write_text(re.sub(r"HostName .*", "HostName nowhere.invalid", config.read_text()))
    with pytest.raises(PitoolError, match="unknown host"):
        open_tunnel(board.host, [1])
    assert not tunnel._open

"""The boards of a cluster as they are now: found, asked for their versions, and not in use.

llama.cpp's client aborts where a server is missing or of another version, so that all of this is
known before a model is loaded. Owns no split and no engine.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from pitool.cluster import hello, status
from pitool.cluster.hello import Hello
from pitool.cluster.members import SSH, STATUS_ABOVE, Member
from pitool.cluster.status import Status
from pitool.errors import PitoolError, UsageError, reason
from pitool.remote.ssh import Host
from pitool.remote.tunnel import open_tunnel

# A board whose model was just closed, or whose server begins again, needs a moment.
FREE_SECONDS, GLANCE = 15.0, 0.2
POWER = "check its power and its network, and that pitool cluster serve runs on it"
A = TypeVar("A")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Way:
    """How a board is reached from here: an IPv4 address, and the ports of server and status."""

    member: Member
    host: str
    port: int
    status_port: int

    @property
    def address(self) -> str:
        """Address and port of the server, as llama.cpp takes them."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Board:
    """A board that answered; ``status`` None: its server is llama.cpp's own program.

    ``hello`` None: it is in use, or its server begins, and so does not answer until that ends.
    """

    way: Way
    status: Status | None
    hello: Hello | None

    @property
    def title(self) -> str:
        """What sentences call it."""
        return self.way.member.title

    @property
    def room(self) -> int:
        """Bytes for a model."""
        if self.status is not None and self.status.room is not None:
            return self.status.room
        return self.hello.free if self.hello else 0


def find_way(member: Member) -> Way:
    """Return how a board is reached; opens a tunnel where it is reached by ssh.

    PitoolError says why it is not.
    """
    ports = member.port, member.port + STATUS_ABOVE
    if member.via == SSH:
        tunnel = open_tunnel(Host(member.host), ports)
        return Way(member, "127.0.0.1", *tunnel.ports)
    try:
        # llama.cpp connects by IPv4 alone.
        found = socket.getaddrinfo(member.address, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise PitoolError(
            f"{member.address} has no IPv4 address here ({reason(error)})",
            "check its name, or use its address",
        ) from None
    return Way(member, str(found[0][4][0]), *ports)


def look(way: Way) -> Board:
    """Return a board that answers and speaks our version; PitoolError for any other."""
    told = _told(way)
    if told is not None:
        _check_version(way.member, told)
        if told.client or not told.ready:
            return Board(way, told, None)
    try:
        greeting = hello.greet(way.host, way.port)
    except (OSError, ValueError) as error:
        raise PitoolError(f"{way.member.title} does not answer ({reason(error)})", POWER) from None
    if not greeting.speaks:
        raise PitoolError(
            f"{way.member.title} speaks version {greeting.version_text} of llama.cpp's RPC"
            f" protocol, and this machine {hello.MAJOR}.{hello.MINOR}",
            "install the same pitool on both",
        )
    return Board(way, told, greeting)


def look_free(way: Way) -> Board:
    """Return a board as ``look``; PitoolError where it stays in use."""
    end = time.monotonic() + FREE_SECONDS
    while True:
        board = look(way)
        if board.hello is not None:
            return board
        if time.monotonic() >= end:
            if board.status and not board.status.client:
                raise PitoolError(f"the server on {board.title} does not start", POWER)
            raise PitoolError(
                f"{board.title} already computes for another program",
                "close that one first: llama.cpp's server has one client at a time",
            )
        time.sleep(GLANCE)


def reach(members: Sequence[Member]) -> list[Board]:
    """Return all boards, free and of our version; the first PitoolError where one is not."""
    if not members:
        raise UsageError("the cluster has no boards", "add some: pitool cluster add HOST")
    return at_once(lambda member: look_free(find_way(member)), members)


def at_once(function: Callable[[A], T], each: Sequence[A]) -> list[T]:
    """Return what a function gives for each board, all at the same time."""
    with ThreadPoolExecutor(max_workers=len(each)) as pool:
        return list(pool.map(function, each))


def _told(way: Way) -> Status | None:
    """Return the status of a board; None where nothing tells one."""
    try:
        return status.fetch(way.host, way.status_port)
    except (OSError, ValueError):
        return None


def _check_version(member: Member, told: Status) -> None:
    mine = status.llama_cpp_version()
    if told.llama_cpp != mine:
        raise PitoolError(
            f"{member.title} has llama-cpp-python {told.llama_cpp or 'unknown'}, and this machine"
            f" {mine or 'unknown'}",
            "install the same pitool on both: a cluster computes with one llama.cpp",
        )

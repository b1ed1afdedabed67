"""Looks at every board of a cluster, and says of each what it can do and what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pitool.cluster import status
from pitool.cluster.connection import Board, at_once, find_way, look
from pitool.cluster.members import Member
from pitool.errors import PitoolError
from pitool.planning.cluster import Link


@dataclass(frozen=True, slots=True)
class Checked:
    """A board that was looked at: what it said and its link, or what is wrong."""

    member: Member
    board: Board | None = None
    link: Link | None = None
    error: PitoolError | None = None

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        told = self.board.status if self.board else None
        return {
            "board": self.member.title,
            "via": self.member.via,
            "error": self.error.sentence if self.error else None,
            "status": asdict(told) if told else None,
            "protocol": self.board.hello.version_text if self.board and self.board.hello else None,
            "round_trip_seconds": self.link.latency if self.link else None,
            "bytes_per_second": self.link.rate if self.link else None,
        }


def check(members: Sequence[Member]) -> list[Checked]:
    """Return all boards in their order; their links are measured one after the other."""
    return [_with_link(found) for found in at_once(_look, members)] if members else []


def _look(member: Member) -> Checked:
    try:
        return Checked(member, look(find_way(member)))
    except PitoolError as error:
        return Checked(member, error=error)


def _with_link(found: Checked) -> Checked:
    if found.board is None or found.board.status is None:
        return found
    way = found.board.way
    try:
        link = status.measure(way.host, way.status_port)
    except (OSError, ValueError):
        return found
    return Checked(found.member, found.board, link)

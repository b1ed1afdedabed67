"""The machines of ``pitool plan --boards``: boards by name, and the network between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pitool.catalog.boards import Board, Ram, boards, find_board
from pitool.catalog.profiles import Profile
from pitool.catalog.tables import names_in
from pitool.catalog.tiers import find_tier
from pitool.errors import UsageError
from pitool.planning.cluster import Link, Node
from pitool.planning.places import Place, board_place

# TCP gets this share of Ethernet's rate (1460 of 1538 bytes of a frame); a switch between two
# boards, their kernels and llama.cpp's three writes for a message take this long both ways.
PAYLOAD_SHARE = 0.949
ROUND_TRIP = 0.0005
EXAMPLE = "pi5-8gb,pi5-8gb,pi4-4gb"


def ethernet(mbit: float) -> Link:
    """Return a link of so many Mbit/s."""
    return Link(ROUND_TRIP, mbit * 1e6 / 8 * PAYLOAD_SHARE)


def find_nodes(text: str, profile: Profile, mbit: float | None = None) -> list[Node]:
    """Return the machines of a list such as ``EXAMPLE``, of which the first is asked.

    ``mbit``: rate of the network, None for that of each board's Ethernet. UsageError for a board
    that is not known, has several sizes of RAM of which none is named, or no Ethernet.
    """
    places = [_place(name) for name in names_in(text)]
    if len(places) < 2:
        raise UsageError("--boards names fewer than two boards", f"use a list such as {EXAMPLE}")
    names = _numbered(place.name for place in places)
    return [
        _node(name, place, profile, mbit, asked=number == 0)
        for number, (name, place) in enumerate(zip(names, places, strict=True))
    ]


def _node(name: str, place: Place, profile: Profile, mbit: float | None, *, asked: bool) -> Node:
    (board,) = place.boards.values()
    if asked:
        speed = board.bandwidth_gbs * 1e9
        return Node(name, place.budget(profile), speed, board, repacked=board.repacked)
    rate = mbit or board.ethernet_mbit
    if not rate:
        raise UsageError(
            f"a {board.name} has no Ethernet", "name the rate of its network: --network 40"
        )
    # A server computes with all cores, in prompts and answers alike.
    return Node(name, place.budget(profile), board.bandwidth_all_gbs * 1e9, board, ethernet(rate))


def _place(name: str) -> Place:
    key, _, tier = name.strip().lower().partition("-")
    key = key if key in boards() else f"{key}b" if f"{key}b" in boards() else key
    board = find_board(key)
    return board_place(key, board, _ram(board, key, tier))


def _ram(board: Board, key: str, tier: str) -> Ram:
    sold = [ram.tier for ram in board.ram]
    if not tier and len(sold) == 1:
        return board.ram[0]
    if not tier:
        raise UsageError(f"{board.name} is sold with {', '.join(sold)}", f"use {key}-{sold[-1]}")
    wanted = find_tier(tier)[0]
    found = next((ram for ram in board.ram if ram.tier == wanted), None)
    if found is None:
        raise UsageError(f"{board.name} has no {tier}", f"choose from: {', '.join(sold)}")
    return found


def _numbered(names: Iterable[str]) -> list[str]:
    """Return the names, those that are there more than once with a number."""
    names = list(names)
    total, seen = Counter(names), Counter[str]()
    made = []
    for name in names:
        seen[name] += 1
        made.append(f"{name} #{seen[name]}" if total[name] > 1 else name)
    return made

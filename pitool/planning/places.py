"""Where a model is to run, and the verdict on what it needs there. All sizes in bytes."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from pitool.catalog.boards import Board, Ram, boards_with
from pitool.catalog.profiles import Profile
from pitool.catalog.tensor_types import repacked_types
from pitool.catalog.tiers import MIB, Tier, tiers

HERE = "here"
"""The name of the place that is this machine."""


class Verdict(enum.StrEnum):
    """``TIGHT``: it loads, but eats into what should stay free for the page cache and spikes."""

    FITS = "fits"
    TIGHT = "tight"
    NO = "no"


def verdict_on(needed: int, room: int, margin: int) -> Verdict:
    """Return the verdict on bytes that are needed where there is ``room``.

    ``margin``: what of the room should stay free.
    """
    if needed <= room - margin:
        return Verdict.FITS
    return Verdict.TIGHT if needed <= room else Verdict.NO


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model is to run.

    ``room``: what Linux manages less what the operating system uses; ``margin``: what of it should
    stay free; ``boards``: those that it may be, by id; ``features``: of a CPU that is no board's.
    """

    name: str
    tier: str
    room: int
    margin: int
    boards: Mapping[str, Board]
    features: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The name as a sentence says it."""
        return "this machine" if self.name == HERE else self.name

    @property
    def repacked(self) -> frozenset[str]:
        """Names of the tensor types that ggml interleaves on any of its boards."""
        own = repacked_types(self.features)
        return own.union(*(board.repacked for board in self.boards.values()))

    @property
    def dotprod(self) -> bool:
        """Whether all of its boards, of which there are some, have the integer dot product."""
        return bool(self.boards) and all(board.dotprod for board in self.boards.values())

    def budget(self, profile: Profile) -> int:
        """Return what a plan may use and still be said to fit."""
        return max(self.room - round(self.margin * profile.margin), 0)

    def judge(self, needed: int, profile: Profile) -> Verdict:
        """Return the verdict on so many bytes."""
        return verdict_on(needed, self.room, self.room - self.budget(profile))


def tier_place(name: str, tier: Tier) -> Place:
    """Return the smallest board of a tier."""
    room = (tier.mem_total_mib - tier.os_mib) * MIB
    return Place(name, name, room, tier.margin_mib * MIB, boards_with(name))


def board_place(key: str, board: Board, ram: Ram) -> Place:
    """Return a board with one of its RAM sizes."""
    tier = tiers()[ram.tier]
    room = (ram.mem_total_mib - tier.os_mib) * MIB
    return Place(f"{key}-{ram.tier}", ram.tier, room, tier.margin_mib * MIB, {key: board})


def tier_places() -> list[Place]:
    """Return every tier, the smallest first."""
    return [tier_place(name, tier) for name, tier in tiers().items()]


def tier_of(place: Place) -> str:
    """Return the tier of a place: of this machine the largest that is inside its memory."""
    if place.tier in tiers():
        return place.tier
    inside = [name for name, tier in tiers().items() if tier.model_bytes <= place.room]
    return inside[-1] if inside else next(iter(tiers()))

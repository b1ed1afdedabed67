"""Profiles: how boldly a plan uses a board (``recipes/profiles.toml``)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pitool.catalog import tables
from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.errors import UsageError

BALANCED = "balanced"


@dataclass(frozen=True, slots=True)
class Profile:
    """One profile, explained by its numbers.

    ``margin``: how many times the tier's margin stays free; ``context``: tokens where none were
    asked for; ``micro_batch``: tokens of one pass over the weights; ``candidates``: quantisations
    that ``auto`` tries, with the tokens/s that each must reach; ``fallback``: when none does.
    """

    summary: str
    margin: float
    context: int
    micro_batch: int
    kv_type: str
    candidates: dict[str, float]
    fallback: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.margin <= 4:
            raise ValueError(f"a margin of {self.margin} is not between 0 and 4")
        unknown = {*self.candidates, *self.fallback} - QUANTISATIONS.keys()
        if unknown or not self.fallback:
            raise ValueError(f"it lists unknown quantisations ({sorted(unknown)})")


def load_profiles(path: Path | None = None) -> dict[str, Profile]:
    """Return every profile by its name, the most careful first."""
    path = path or tables.recipes_folder() / "profiles.toml"
    return {
        key: tables.build(Profile, table, f"{path.name}: {key}")
        for key, table in tables.read_toml(path).items()
    }


@cache
def profiles() -> dict[str, Profile]:
    """Return the profiles of the installed recipes."""
    return load_profiles()


def find_profile(name: str) -> Profile:
    """Return the profile with this name; UsageError names the nearest."""
    return tables.lookup(profiles(), name, "profile", UsageError)

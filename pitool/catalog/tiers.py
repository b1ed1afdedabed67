"""Tiers: RAM classes that a user names, and what of the RAM a model may use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pitool.catalog import tables
from pitool.errors import UsageError

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Tier:
    """A RAM class; all figures in MiB.

    ``mem_total_mib`` is the smallest MemTotal of a board of the class, ``os_mib`` what a freshly
    booted 64-bit Lite image uses, ``margin_mib`` what stays free for the page cache and spikes.
    """

    ram_mib: int
    mem_total_mib: int
    os_mib: int
    margin_mib: int
    source: str

    def __post_init__(self) -> None:
        if self.model_bytes <= 0:
            raise ValueError("the operating system and the margin leave no memory for a model")

    @property
    def model_bytes(self) -> int:
        """Bytes that a model with everything it needs may use."""
        return (self.mem_total_mib - self.os_mib - self.margin_mib) * MIB


def load_tiers(path: Path | None = None) -> dict[str, Tier]:
    """Return every tier by its name, in the order of the file."""
    path = path or tables.recipes_folder() / "tiers.toml"
    return {
        key: tables.build(Tier, table, f"{path.name}: {key}")
        for key, table in tables.read_toml(path).items()
    }


@cache
def tiers() -> dict[str, Tier]:
    """Return the tiers of the installed recipes."""
    return load_tiers()


def find_tier(text: str) -> tuple[str, Tier]:
    """Return name and tier for what a user typed (``8gb``, ``8GB``, ``8 GiB``, ``8g``, ``8192mb``).

    UsageError names the largest tier inside a size that is none, for that one is safe to use.
    """
    match = re.fullmatch(r"(\d+)\s*([mg])(i?b)?", text.strip().lower())
    if not match:
        return text, tables.lookup(tiers(), text, "RAM tier", UsageError)
    ram_mib = int(match[1]) * (1024 if match[2] == "g" else 1)
    inside = [(key, tier) for key, tier in tiers().items() if tier.ram_mib <= ram_mib]
    if not inside:
        raise UsageError(
            f"{text.strip()} is too small for any model", f"choose from: {', '.join(tiers())}"
        )
    key, tier = max(inside, key=lambda pair: pair[1].ram_mib)
    if tier.ram_mib != ram_mib:
        raise UsageError(f"unknown RAM tier {text.strip()!r}", f"did you mean {key!r}?")
    return key, tier

"""Rented GPUs (``recipes/rented.toml``) and what of their memory a model may use."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pitool.catalog import tables
from pitool.planning.plan import Place

GIB = 1024**3
# A T4 sold as 16 GB shows 15360 MiB and an A10G sold as 24 GB 23028: error correction takes 1/16.
USABLE_SHARE = 15360 / 16384
# What the CUDA runtime and its libraries hold on a card before the first tensor: an allowance, for
# it differs by card and driver (0.3 to 0.7 GB).
RUNTIME_BYTES = 600_000_000
MARGIN_SHARE = 0.02
HOURS_A_DAY, HOURS_A_MONTH = 24, 730


@dataclass(frozen=True, slots=True)
class Gpu:
    """A card to rent: ``vram_gb`` and ``host_ram_gb`` in GiB, ``usd_hour`` on ``price_date``."""

    vram_gb: int
    usd_hour: float | None = None
    price_date: str | None = None
    supply: str | None = None
    host_ram_gb: int | None = None

    def __post_init__(self) -> None:
        if self.vram_gb <= 0 or (self.usd_hour is not None and self.usd_hour <= 0):
            raise ValueError("memory and price must be positive")

    def place(self, name: str) -> Place:
        """Return the card as a place for a plan."""
        room = int(self.vram_gb * GIB * USABLE_SHARE) - RUNTIME_BYTES
        return Place(name, name, room, int(self.vram_gb * GIB * MARGIN_SHARE), {})

    def holds(self, count: int) -> bool:
        """Tell whether the RAM beside the card holds so many bytes, where it is known."""
        return self.host_ram_gb is None or count <= self.host_ram_gb * GIB


def load_gpus(path: Path | None = None) -> dict[str, Gpu]:
    """Return every card by its name, in the order of the file."""
    path = path or tables.recipes_folder() / "rented.toml"
    return {
        key: tables.build(Gpu, table, f"{path.name}: {key}")
        for key, table in tables.read_toml(path).items()
    }


@cache
def gpus() -> dict[str, Gpu]:
    """Return the cards of the installed recipes."""
    return load_gpus()

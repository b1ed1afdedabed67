"""Ways to load a model side by side: memory, what of it the kernel may drop, and seconds.

Load times are bytes over the sequential reading of what the file lies on
(``recipes/storage.toml``); a file that is in the page cache already loads faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from pitool.catalog import tables
from pitool.catalog.manifest import Certificate
from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.planning.plan import Place, Planner, Row

# What is compared: quantisation and load mode.
METHODS = (
    ("F32", "read"),
    ("F16", "mmap"),
    ("Q8_0", "read"),
    ("Q8_0", "mmap"),
    ("Q4_K_M", "read"),
    ("Q4_K_M", "mmap"),
    ("Q4_K_M", "mlock"),
    ("Q2_K", "mmap"),
)


@dataclass(frozen=True, slots=True)
class Storage:
    """Sequential reading in MB/s; None where a SoC has no such port."""

    sd: float
    source: str
    usb: float | None = None
    nvme: float | None = None

    def seconds(self, count: int) -> dict[str, float]:
        """Return the seconds to read so many bytes, by medium."""
        rates = {"sd": self.sd, "usb": self.usb, "nvme": self.nvme}
        return {name: count / (rate * 1e6) for name, rate in rates.items() if rate}


@cache
def storages(path: Path | None = None) -> dict[str, Storage]:
    """Return what a model is loaded from, by SoC."""
    path = path or tables.recipes_folder() / "storage.toml"
    return {
        key: tables.build(Storage, table, f"{path.name}: {key}")
        for key, table in tables.read_toml(path).items()
    }


@dataclass(frozen=True, slots=True)
class Method:
    """A way to load: ``droppable`` bytes are the file's own pages, which the kernel may drop.

    ``seconds``: to read the file, by medium; ``certificate``: the measured quality, if any.
    """

    mode: str
    row: Row
    droppable: int
    seconds: dict[str, float]
    certificate: Certificate | None


def methods(planner: Planner, place: Place) -> Iterator[Method]:
    """Yield the ways to load the model at a place, on its fastest board."""
    storage = storages()[fastest_soc(place)] if place.boards else None
    for name, mode in METHODS:
        load = replace(planner.load, mapped=mode != "read")
        row = replace(planner, load=load).row(QUANTISATIONS[name], place)
        weights = row.artifact.bytes
        yield Method(
            mode,
            row,
            weights if mode == "mmap" else 0,
            storage.seconds(weights) if storage else {},
            planner.subject.certificates.get(name),
        )


def fastest_soc(place: Place) -> str:
    """Return the SoC of the place's fastest board."""
    return max(place.boards.values(), key=lambda board: board.bandwidth_gbs).soc


@dataclass(frozen=True, slots=True)
class Saving:
    """What a change of quantisation saves, in bytes of the file and of memory."""

    before: Row
    after: Row

    @property
    def file(self) -> int:
        """Bytes of the file that are saved."""
        return self.before.artifact.bytes - self.after.artifact.bytes

    @property
    def file_share(self) -> float:
        """Share of the file that is saved."""
        return self.file / self.before.artifact.bytes

    @property
    def memory(self) -> int:
        """Bytes of memory that are saved."""
        return self.before.peak - self.after.peak

    @property
    def memory_share(self) -> float:
        """Share of the memory that is saved."""
        return self.memory / self.before.peak


def savings(planner: Planner, place: Place) -> Iterator[Saving]:
    """Yield what going from 16 to 8, from 8 to 4 and from 16 to 4 bits saves."""
    for before, after in (("F16", "Q8_0"), ("Q8_0", "Q4_K_M"), ("F16", "Q4_K_M")):
        yield Saving(
            planner.row(QUANTISATIONS[before], place), planner.row(QUANTISATIONS[after], place)
        )

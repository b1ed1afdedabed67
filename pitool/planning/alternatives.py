"""What else could be done at one place: other ways to load, other quantisations, other profiles.

Load times are bytes over the sequential reading of what the file lies on
(``recipes/storage.toml``); a file that is in the page cache already loads faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from pitool.catalog import tables
from pitool.catalog.manifest import Certificate
from pitool.catalog.profiles import Profile, profiles
from pitool.planning.formats import GGUF
from pitool.planning.formats.gguf import GgufPlan
from pitool.planning.places import Place
from pitool.planning.planner import Planner, Row, usable

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
class LoadMethod:
    """A way to load: ``droppable`` bytes are the file's own pages, which the kernel may drop.

    ``seconds``: to read the file, by medium; ``certificate``: the measured quality, if any.
    ``streamed``: of what does not fit but whose file the kernel can read again for every token,
    the tokens/s by medium; empty for all others.
    """

    mode: str
    row: Row
    droppable: int
    seconds: dict[str, float]
    certificate: Certificate | None
    streamed: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return every number."""
        return {
            "quantisation": self.row.quantisation,
            "mode": self.mode,
            "place": self.row.place.name,
            "memory_bytes": self.row.peak,
            "droppable_bytes": self.droppable,
            "verdict": self.row.verdict.value,
            "load_seconds": self.seconds,
            "streamed_decode": self.streamed,
            "mean_kl": self.certificate.mean_kl if self.certificate else None,
        }


def load_methods(planner: Planner, place: Place) -> Iterator[LoadMethod]:
    """Yield the ways to load the model at a place, on its fastest board."""
    storage = storages()[fastest_soc(place)] if place.boards else None
    for name, mode in METHODS:
        load = replace(planner.load, mapped=mode != "read")
        row = replace(planner, load=load).row(GGUF.find(name), place)
        weights = row.artifact.tensor_bytes
        yield LoadMethod(
            mode,
            row,
            weights if mode == "mmap" else 0,
            storage.seconds(row.artifact.bytes) if storage else {},
            planner.model.certificates.get(name),
            _streamed(planner, row, storage) if mode == "mmap" and storage else {},
        )


def streaming(planner: Planner, place: Place) -> LoadMethod | None:
    """Return the fastest usable quantisation that runs from the disk, if any does."""
    found = [m for m in load_methods(planner, place) if m.streamed]
    kept = (m for m in reversed(found) if usable(m.row.artifact.quantisation))
    return next(kept, None)


def _streamed(planner: Planner, row: Row, storage: Storage) -> dict[str, float]:
    """Return the tokens/s of what is read from the disk for every token, by medium.

    Only what the kernel can drop need not fit, so the weights are mapped and not repacked. They
    are read in the same order for every token, of which a page cache that is too small keeps
    nothing that comes next; what lies in memory beside them is read as fast as memory is.
    """
    if row.loads:
        return {}
    load = replace(planner.load, mapped=True, repack=False)
    plain = replace(planner, load=load).row(row.artifact.quantisation, row.place)
    if plain.peak - plain.artifact.tensor_bytes > row.place.budget(planner.profile):
        return {}
    shape = planner.model.shape
    assert isinstance(plain.artifact, GgufPlan)
    read = sum(t.bytes * shape.read_share(t.tensor.name) for t in plain.artifact.tensors)
    return {medium: 1 / seconds for medium, seconds in storage.seconds(round(read)).items()}


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

    def to_json(self) -> dict[str, Any]:
        """Return every number."""
        return {
            "before": self.before.quantisation,
            "after": self.after.quantisation,
            "file_bytes_saved": self.file,
            "file_share_saved": self.file_share,
            "memory_bytes_saved": self.memory,
            "memory_share_saved": self.memory_share,
        }


def savings(planner: Planner, place: Place) -> Iterator[Saving]:
    """Yield what going from 16 to 8, from 8 to 4 and from 16 to 4 bits saves."""
    sixteen, eight, four = GGUF.by_bits
    for before, after in ((sixteen, eight), (eight, four), (sixteen, four)):
        yield Saving(planner.row(GGUF.find(before), place), planner.row(GGUF.find(after), place))


@dataclass(frozen=True, slots=True)
class ProfileChoice:
    """What ``auto`` takes under a profile with its own settings, and why."""

    name: str
    profile: Profile
    row: Row
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return every number."""
        return {
            "summary": self.profile.summary,
            "budget_bytes": self.row.place.budget(self.profile),
            "context": self.row.artifact.context,
            "kv_type": self.profile.kv_type,
            "micro_batch": self.profile.micro_batch,
            "quantisation": self.row.quantisation,
            "verdict": self.row.verdict.value,
            "reason": self.reason,
        }


def profile_choices(planner: Planner, place: Place) -> Iterator[ProfileChoice]:
    """Yield what each profile would take at a place."""
    for name, profile in profiles().items():
        row, reason = planner.under(profile).choose(place)
        yield ProfileChoice(name, profile, row, reason)

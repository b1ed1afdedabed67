"""GPUs to rent for one model: what fits, how fast it would be, and what changing saves.

Prices are data with a provider and a date (``recipes/rented.toml``). Decode is estimated by the
bandwidth of a card's memory alone: cards wait for that, as boards do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

from pitool.catalog import tables
from pitool.errors import UsageError
from pitool.planning.formats import GGUF
from pitool.planning.formats.gguf import GgufPlan
from pitool.planning.offers import EIGHT, FOUR, SIXTEEN, Offer
from pitool.planning.places import Place
from pitool.planning.planner import Planner, Row

GIB = 1024**3
# A T4 sold as 16 GB shows 15360 MiB and an A10G sold as 24 GB 23028: error correction takes 1/16.
USABLE_SHARE = 15360 / 16384
# What the CUDA runtime and its libraries hold on a card before the first tensor: an allowance, for
# it differs by card and driver (0.3 to 0.7 GB).
RUNTIME_BYTES = 600_000_000
MARGIN_SHARE = 0.02
HOURS_A_DAY, HOURS_A_MONTH = 24, 730
# Of its maker's bandwidth a card was seen to use this share in a decode: an RTX 3060 with 360 GB/s
# gave 112.8 tokens/s with the 2.02 GB of Llama 3.2 3B in Q4_K_M (geerlingguy/ai-benchmarks).
BANDWIDTH_SHARE = 112.8 * 2.02 / 360


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU to rent: ``vram_gb`` and ``host_ram_gb`` in GiB, ``usd_hour`` on ``price_date``.

    ``provider``: whose offer it is; ``card``: the slowest that it may be, with ``bandwidth_gbs``
    of memory, in 1e9 bytes/s.
    """

    vram_gb: int
    provider: str | None = None
    card: str | None = None
    bandwidth_gbs: float | None = None
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


@dataclass(frozen=True, slots=True)
class Rental:
    """A rented card with the model at 16, 8 and 4 bits in its memory.

    ``decode``: tokens/s to expect by quantisation, where the card's bandwidth is known.
    """

    name: str
    gpu: Gpu
    rows: Mapping[str, Row]
    decode: Mapping[str, float]

    def fits(self, quantisation: str) -> bool:
        """Tell whether it fits, tight not counted."""
        return self.rows[quantisation].fits

    @property
    def best(self) -> str | None:
        """The quantisation of most bits that fits."""
        return next((q for q in (SIXTEEN, EIGHT, FOUR) if self.fits(q)), None)

    def to_json(self) -> dict[str, Any]:
        """Return every number."""
        return {
            "card": self.name,
            "provider": self.gpu.provider,
            "gpu": self.gpu.card,
            "vram_gb": self.gpu.vram_gb,
            "usd_hour": self.gpu.usd_hour,
            "price_date": self.gpu.price_date,
            "supply": self.gpu.supply,
            **{
                name: {
                    "verdict": row.verdict.value, "left_bytes": row.left, "needs_bytes": row.peak,
                    "decode_estimate": self.decode.get(name),
                }
                for name, row in self.rows.items()
            },
        }  # fmt: skip


def rentals(planner: Planner) -> list[Rental]:
    """Return every card, the cheapest first; those without a price last."""
    made = [_rental(planner, name, gpu) for name, gpu in gpus().items()]
    return sorted(made, key=lambda r: (r.gpu.usd_hour or inf, r.gpu.vram_gb))


def _rental(planner: Planner, name: str, gpu: Gpu) -> Rental:
    place = gpu.place(name)
    rows = {q: planner.row(GGUF.find(q), place) for q in (SIXTEEN, EIGHT, FOUR)}
    rate = (gpu.bandwidth_gbs or 0) * 1e9 * BANDWIDTH_SHARE
    decode = {q: rate / _streamed(planner, row) for q, row in rows.items() if rate}
    return Rental(name, gpu, rows, decode)


def _streamed(planner: Planner, row: Row) -> float:
    """Return the bytes of weights that a decode reads."""
    shape = planner.model.shape
    assert isinstance(row.artifact, GgufPlan)
    return sum(t.bytes * shape.read_share(t.tensor.name) for t in row.artifact.tensors)


def cheapest(found: Iterable[Rental], quantisation: str) -> Rental | None:
    """Return the cheapest card with a price that a quantisation fits."""
    fitting = (r for r in found if r.gpu.usd_hour is not None and r.fits(quantisation))
    return min(fitting, key=lambda r: r.gpu.usd_hour or inf, default=None)


@dataclass(frozen=True, slots=True)
class Payback:
    """After how many hours, and tokens decoded in these, a board has cost less than renting."""

    offer: Offer
    hours: float
    tokens: float


def payback(offer: Offer, usd_hour: float, usd_kwh: float) -> Payback | None:
    """Return when a board has paid for itself; None for never, or where that is unknown."""
    if offer.price is None or offer.board.watts is None:
        return None
    saved = usd_hour - offer.board.watts.load / 1000 * usd_kwh
    if saved <= 0:
        return None
    hours = offer.price / saved
    return Payback(offer, hours, hours * 3600 * offer.estimate.decode)


def paybacks(found: Iterable[Offer], rental: Rental | None, usd_kwh: float) -> list[Payback]:
    """Return when the boards that hold the model at 4 bits have paid for themselves."""
    if rental is None or rental.gpu.usd_hour is None:
        return []
    usd_hour = rental.gpu.usd_hour
    made = (payback(offer, usd_hour, usd_kwh) for offer in found if offer.four.fits)
    return [each for each in made if each]


@dataclass(frozen=True, slots=True)
class Change:
    """A card in place of a dearer one; ``quantisation``: the one of most bits that fits it.

    ``hour``, ``day`` and ``month``: what it saves, in USD; ``share``: of the dearer one's price.
    """

    to: Rental
    quantisation: str
    hour: float
    share: float

    @property
    def day(self) -> float:
        """Saved in a day."""
        return self.hour * HOURS_A_DAY

    @property
    def month(self) -> float:
        """Saved in a month."""
        return self.hour * HOURS_A_MONTH

    def to_json(self) -> dict[str, Any]:
        """Return every number."""
        return {
            "to": self.to.name,
            "quantisation": self.quantisation,
            "usd_hour_saved": self.hour,
            "usd_day_saved": self.day,
            "usd_month_saved": self.month,
            "share_saved": self.share,
            "decode_estimate": self.to.decode.get(self.quantisation),
        }


def find_rental(found: Iterable[Rental], name: str) -> Rental:
    """Return the card of that name; UsageError names the nearest, or says that it has no price."""
    rental = tables.lookup({r.name: r for r in found}, name.upper(), "card", UsageError)
    if rental.gpu.usd_hour is None:
        raise UsageError(f"{rental.name} has no price", "choose a card with one (--rent)")
    return rental


def changes(found: Iterable[Rental], rental: Rental) -> Iterator[Change]:
    """Yield the cheaper cards that the model fits, those that save most first.

    Cards without a price are none of them.
    """
    price = rental.gpu.usd_hour
    assert price is not None
    for other in found:
        if other.gpu.usd_hour is None or other.gpu.usd_hour >= price or other.best is None:
            continue
        saved = price - other.gpu.usd_hour
        yield Change(other, other.best, saved, saved / price)

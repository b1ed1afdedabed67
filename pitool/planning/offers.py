"""Boards to buy and cards to rent for one model: price, verdicts, speed and energy.

Prices are data with a date; a user may replace them. Energy is that at the wall under full load.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf

from pitool.catalog import tables
from pitool.catalog.boards import Board, boards
from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.errors import UsageError
from pitool.planning.plan import Place, Planner, Row, Verdict, board_place
from pitool.planning.rented import Gpu, gpus
from pitool.planning.speed import Estimate

YOURS = "yours"
SIXTEEN, EIGHT, FOUR = "F16", "Q8_0", "Q4_K_M"
JOULES_PER_KWH = 3.6e6
RANK = {Verdict.FITS: 0, Verdict.TIGHT: 1, Verdict.NO: 2}


@dataclass(frozen=True, slots=True)
class Offer:
    """A board with a RAM size; ``eight`` and ``four``: the model at 8 and at 4 bits on it.

    ``price``: USD, None where it is unknown; ``date``: of the price, ``yours`` for a given one.
    """

    name: str
    board: Board
    price: float | None
    date: str | None
    eight: Row
    four: Row

    @property
    def best(self) -> Row:
        """The better of both that loads; 4 bits where neither does."""
        return self.eight if self.eight.verdict is Verdict.FITS else self.four

    @property
    def estimate(self) -> Estimate:
        """The predicted speed at 4 bits."""
        return self.four.artifact.estimates[0]

    @property
    def joules_per_token(self) -> float | None:
        """Energy of a decoded token at 4 bits, at the wall."""
        watts = self.board.watts
        return watts.load / self.estimate.decode if watts else None

    def usd_per_million(self, usd_kwh: float) -> float | None:
        """Return the electricity for a million tokens."""
        joules = self.joules_per_token
        return None if joules is None else joules * 1e6 / JOULES_PER_KWH * usd_kwh

    @property
    def usd_per_rate(self) -> float | None:
        """Price for each token/s."""
        return None if self.price is None else self.price / self.estimate.decode


@dataclass(frozen=True, slots=True)
class Sold:
    """A board with one of its RAM sizes, or this very machine, as a place.

    ``price``: USD, None where it is unknown; ``date``: of the price, ``yours`` for a given one.
    """

    place: Place
    board: Board
    price: float | None
    date: str | None


def sold(places: Iterable[Place], prices: Mapping[str, float]) -> Iterator[Sold]:
    """Yield the boards of the places that can be bought, each with its own RAM size."""
    for place in places:
        for key, board in place.boards.items():
            ram = next((r for r in board.ram if r.tier == place.tier), None)
            if ram is None:
                yield Sold(place, board, None, None)
            elif ram.available:
                found = board_place(key, board, ram)
                given = prices.get(found.name)
                date = ram.price_date if given is None else YOURS
                yield Sold(found, board, ram.price_usd if given is None else given, date)


def offers(planner: Planner, found: Iterable[Sold]) -> list[Offer]:
    """Return the offers: what fits first, then by price for each token/s."""
    made = [_offer(planner, one) for one in found]
    return sorted(made, key=lambda o: (RANK[o.four.verdict], o.usd_per_rate or inf, o.name))


def _offer(planner: Planner, one: Sold) -> Offer:
    place = one.place
    return Offer(
        place.name,
        one.board,
        one.price,
        one.date,
        planner.row(QUANTISATIONS[EIGHT], place),
        planner.row(QUANTISATIONS[FOUR], place),
    )


def read_prices(texts: Iterable[str]) -> dict[str, float]:
    """Return the prices that a user gives as ``pi5-8gb=160``; UsageError for what is none."""
    known = {f"{key}-{ram.tier}" for key, board in boards().items() for ram in board.ram}
    prices = {}
    for text in texts:
        name, _, value = text.partition("=")
        tables.lookup(dict.fromkeys(known), name.strip(), "board to price", UsageError)
        try:
            price = float(value)
        except ValueError:
            price = -1.0
        if not 0 < price < inf:
            raise UsageError(f"{text!r} is no price", "write it as pi5-8gb=160, in USD above 0")
        prices[name.strip()] = price
    return prices


@dataclass(frozen=True, slots=True)
class Choice:
    """A recommendation: for whom, which, why, and what the next board up would bring."""

    purpose: str
    offer: Offer
    reason: str
    next_up: str


def choices(found: Iterable[Offer]) -> list[Choice]:
    """Return the best of the priced boards for a tight budget, for quality and for headroom."""
    fitting = [o for o in found if o.price is not None and o.four.verdict is Verdict.FITS]
    if not fitting:
        return []
    budget = min(fitting, key=lambda o: (o.price or inf, -o.estimate.decode))
    quality = min(fitting, key=lambda o: (o.best is o.four, -o.estimate.decode, o.price or inf))
    headroom = max(fitting, key=lambda o: (o.four.left, -(o.price or inf)))
    at_eight = "the cheapest on which 8 bits fit" if quality.best is quality.eight else (
        "8 bits fit nowhere; the fastest at 4 bits"
    )  # fmt: skip
    return [
        Choice("tight budget", budget, "the cheapest on which 4 bits fit", _next(budget, fitting)),
        Choice("quality", quality, at_eight, _next(quality, fitting)),
        Choice(
            "headroom",
            headroom,
            f"{headroom.four.left / 1e9:.1f} GB stay free at 4 bits, for context or a larger model",
            _next(headroom, fitting),
        ),
    ]


def _next(offer: Offer, fitting: list[Offer]) -> str:
    """Say what the next dearer board brings that this one has not."""
    price = offer.price or 0
    dearer = [o for o in fitting if (o.price or 0) > price and _gain(offer, o)]
    if not dearer:
        return "no dearer board brings more"
    above = min(dearer, key=lambda o: o.price or inf)
    return f"{above.name} for {(above.price or 0) - price:.0f} USD more: {_gain(offer, above)}"


def _gain(offer: Offer, above: Offer) -> str:
    faster = above.estimate.decode / offer.estimate.decode
    parts = []
    if offer.eight.verdict is not Verdict.FITS and above.eight.verdict is Verdict.FITS:
        parts.append("8 bits fit")
    if faster > 1.05:
        parts.append(f"{faster:.1f} x the speed")
    if above.four.left > offer.four.left * 1.2:
        parts.append(f"{(above.four.left - offer.four.left) / 1e9:.1f} GB more room")
    return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Rental:
    """A rented card with the model at 16, 8 and 4 bits in its memory."""

    name: str
    gpu: Gpu
    rows: Mapping[str, Row]

    def fits(self, quantisation: str) -> bool:
        """Tell whether it fits, tight not counted."""
        return self.rows[quantisation].verdict is Verdict.FITS


def rentals(planner: Planner) -> list[Rental]:
    """Return every card, the cheapest first; those without a price last."""
    made = [
        Rental(
            name,
            gpu,
            {q: planner.row(QUANTISATIONS[q], gpu.place(name)) for q in (SIXTEEN, EIGHT, FOUR)},
        )
        for name, gpu in gpus().items()
    ]
    return sorted(made, key=lambda r: (r.gpu.usd_hour or inf, r.gpu.vram_gb))


def cheapest(found: Iterable[Rental], quantisation: str) -> Rental | None:
    """Return the cheapest card with a price that a quantisation fits."""
    fitting = (r for r in found if r.gpu.usd_hour is not None and r.fits(quantisation))
    return min(fitting, key=lambda r: r.gpu.usd_hour or inf, default=None)


def payback(offer: Offer, usd_hour: float, usd_kwh: float) -> tuple[float, float] | None:
    """Return hours and tokens after which a board has cost less than renting; None for never."""
    if offer.price is None or offer.board.watts is None:
        return None
    saved = usd_hour - offer.board.watts.load / 1000 * usd_kwh
    if saved <= 0:
        return None
    hours = offer.price / saved
    return hours, hours * 3600 * offer.estimate.decode


@dataclass(frozen=True, slots=True)
class Reaching:
    """A board and the best quantisation that decodes fast enough on it."""

    name: str
    price: float | None
    row: Row


def reaching(
    planner: Planner, rate: float, quantisations: Iterable[str], found: Iterable[Sold]
) -> list[Reaching]:
    """Return the boards on which the model fits and decodes at ``rate`` tokens/s, by price."""
    quantisations = list(quantisations)
    made = []
    for one in found:
        rows = _fitting(planner, quantisations, one)
        if enough := [row for row in rows if _decode(row) >= rate]:
            made.append(Reaching(one.place.name, one.price, enough[0]))
    return sorted(made, key=lambda r: (r.price or inf, r.name))


def fastest(
    planner: Planner, quantisations: Iterable[str], found: Iterable[Sold]
) -> Reaching | None:
    """Return the board and quantisation that decode the fastest of all that fit, if any does."""
    quantisations = list(quantisations)
    fitting = (
        Reaching(one.place.name, one.price, row)
        for one in found
        for row in _fitting(planner, quantisations, one)
    )
    return max(fitting, key=lambda r: (_decode(r.row), -(r.price or inf)), default=None)


def _fitting(planner: Planner, quantisations: Iterable[str], one: Sold) -> list[Row]:
    rows = (planner.row(QUANTISATIONS[q], one.place) for q in quantisations)
    return [row for row in rows if row.verdict is Verdict.FITS]


def _decode(row: Row) -> float:
    return row.artifact.estimates[0].decode

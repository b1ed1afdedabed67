"""Boards to buy for one model: price, verdicts, speed and energy.

Prices are data with a date (``recipes/boards.toml``); a user may replace them. Energy is that at
the wall under full load.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from pitool.catalog import tables
from pitool.catalog.boards import Board, boards
from pitool.errors import UsageError
from pitool.planning.formats import GGUF
from pitool.planning.formats.base import AnyQuantisation
from pitool.planning.places import Place, Verdict, board_place
from pitool.planning.planner import Planner, Row
from pitool.planning.speed import Estimate
from pitool.report.numbers import format_fixed, format_gigabytes, format_price

YOURS = "yours"
SIXTEEN, EIGHT, FOUR = GGUF.by_bits
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
        return self.eight if self.eight.fits else self.four

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

    def to_json(self, usd_kwh: float) -> dict[str, Any]:
        """Return every number; ``usd_kwh``: the price of electricity."""
        return {
            "board": self.name,
            "price_usd": self.price,
            "price_date": self.date,
            "eight_bit": {"verdict": self.eight.verdict.value, "left_bytes": self.eight.left},
            "four_bit": {"verdict": self.four.verdict.value, "left_bytes": self.four.left},
            "decode_eight_bit": self.eight.artifact.estimates[0].decode,
            "decode_four_bit": self.estimate.decode,
            "watts": self.board.watts.load if self.board.watts else None,
            "joules_per_token": self.joules_per_token,
            "usd_per_million_tokens": self.usd_per_million(usd_kwh),
            "usd_per_token_per_second": self.usd_per_rate,
        }


@dataclass(frozen=True, slots=True)
class PricedBoard:
    """A board with one of its RAM sizes, or this very machine, as a place.

    ``price``: USD, None where it is unknown; ``date``: of the price, ``yours`` for a given one.
    """

    place: Place
    board: Board
    price: float | None
    date: str | None


def priced_boards(places: Iterable[Place], prices: Mapping[str, float]) -> Iterator[PricedBoard]:
    """Yield the boards of the places that can be bought, each with its own RAM size."""
    for place in places:
        for key, board in place.boards.items():
            ram = next((r for r in board.ram if r.tier == place.tier), None)
            if ram is None:
                yield PricedBoard(place, board, None, None)
            elif ram.available:
                found = board_place(key, board, ram)
                given = prices.get(found.name)
                date = ram.price_date if given is None else YOURS
                yield PricedBoard(found, board, ram.price_usd if given is None else given, date)


def offers(planner: Planner, found: Iterable[PricedBoard]) -> list[Offer]:
    """Return the offers: what fits first, then by price for each token/s."""
    made = [_offer(planner, one) for one in found]
    return sorted(made, key=lambda o: (RANK[o.four.verdict], o.usd_per_rate or inf, o.name))


def _offer(planner: Planner, one: PricedBoard) -> Offer:
    place = one.place
    return Offer(
        place.name,
        one.board,
        one.price,
        one.date,
        planner.row(GGUF.find(EIGHT), place),
        planner.row(GGUF.find(FOUR), place),
    )


def read_prices(texts: Iterable[str]) -> dict[str, float]:
    """Return the prices that a user gives as ``pi5-8gb=160``; UsageError for what is none."""
    known = {f"{key}-{ram.tier}" for key, board in boards().items() for ram in board.ram}
    prices = {}
    for text in texts:
        name, _, value = text.partition("=")
        tables.lookup(dict.fromkeys(known), name.strip(), "board", UsageError)
        try:
            price = float(value)
        except ValueError:
            price = -1.0
        if not 0 < price < inf:
            raise UsageError(f"{text!r} is not a price", "write it as pi5-8gb=160, in USD above 0")
        prices[name.strip()] = price
    return prices


@dataclass(frozen=True, slots=True)
class Choice:
    """A recommendation: for whom, which, why, and what the next board up would bring."""

    purpose: str
    offer: Offer
    reason: str
    next_up: str

    def to_json(self) -> dict[str, Any]:
        """Return it with the board by its name."""
        return {
            "purpose": self.purpose,
            "board": self.offer.name,
            "reason": self.reason,
            "next_up": self.next_up,
        }


def choices(found: Iterable[Offer]) -> list[Choice]:
    """Return the best of the priced boards for a tight budget, for quality and for headroom."""
    fitting = [o for o in found if o.price is not None and o.four.fits]
    if not fitting:
        return []
    budget = min(fitting, key=lambda o: (o.price or inf, -o.estimate.decode))
    quality = min(fitting, key=lambda o: (o.best is o.four, -o.estimate.decode, o.price or inf))
    headroom = max(fitting, key=lambda o: (o.four.left, -(o.price or inf)))
    at_eight = "the fastest on which 8 bits fit" if quality.best is quality.eight else (
        "8 bits do not fit any board; the fastest at 4 bits"
    )  # fmt: skip
    return [
        Choice("tight budget", budget, "the cheapest on which 4 bits fit", _next(budget, fitting)),
        Choice("quality", quality, at_eight, _next(quality, fitting)),
        Choice(
            "headroom",
            headroom,
            f"{format_gigabytes(headroom.four.left)} GB free at 4 bits, for context or a"
            " larger model",
            _next(headroom, fitting),
        ),
    ]


def _next(offer: Offer, fitting: list[Offer]) -> str:
    """Say what the next dearer board brings that this one has not."""
    price = offer.price or 0
    dearer = [o for o in fitting if (o.price or 0) > price and _gain(offer, o)]
    if not dearer:
        return "no more expensive board is better"
    above = min(dearer, key=lambda o: o.price or inf)
    more = format_price((above.price or 0) - price)
    return f"{above.name} for {more} USD more: {_gain(offer, above)}"


def _gain(offer: Offer, above: Offer) -> str:
    faster = above.estimate.decode / offer.estimate.decode
    parts = []
    if not offer.eight.fits and above.eight.fits:
        parts.append("8 bits fit")
    if faster > 1.05:
        parts.append(f"{format_fixed(faster, 1)} x the speed")
    if above.four.left > offer.four.left * 1.2:
        parts.append(f"{format_gigabytes(above.four.left - offer.four.left)} GB more free memory")
    return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Match:
    """A board and the best quantisation that decodes fast enough on it."""

    name: str
    price: float | None
    row: Row

    @property
    def estimate(self) -> Estimate:
        """The predicted speed."""
        return self.row.artifact.estimates[0]

    def to_json(self) -> dict[str, Any]:
        """Return every number."""
        return {
            "board": self.name,
            "price_usd": self.price,
            "quantisation": self.row.quantisation,
            "decode": self.estimate.decode,
            "decode_range": list(self.estimate.decode_range),
        }


def matches(
    planner: Planner,
    rate: float,
    quantisations: Iterable[AnyQuantisation],
    found: Iterable[PricedBoard],
) -> list[Match]:
    """Return the boards on which the model fits and decodes at ``rate`` tokens/s, by price."""
    quantisations = list(quantisations)
    made = []
    for one in found:
        rows = _fitting(planner, quantisations, one)
        if enough := [row for row in rows if row.slowest >= rate]:
            made.append(Match(one.place.name, one.price, enough[0]))
    return sorted(made, key=lambda m: (m.price or inf, m.name))


def fastest(
    planner: Planner, quantisations: Iterable[AnyQuantisation], found: Iterable[PricedBoard]
) -> Match | None:
    """Return the board and quantisation that decode the fastest of all that fit, if any does."""
    quantisations = list(quantisations)
    fitting = (
        Match(one.place.name, one.price, row)
        for one in found
        for row in _fitting(planner, quantisations, one)
    )
    return max(fitting, key=lambda m: (m.estimate.decode, -(m.price or inf)), default=None)


def _fitting(
    planner: Planner, quantisations: Iterable[AnyQuantisation], one: PricedBoard
) -> list[Row]:
    rows = (planner.row(kind, one.place) for kind in quantisations)
    return [row for row in rows if row.fits]

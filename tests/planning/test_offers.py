"""Boards to buy and cards to rent: verdicts that were seen, sums by hand, prices of a user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pitool.catalog.boards import boards
from pitool.catalog.profiles import find_profile
from pitool.checkpoint.config import read_config
from pitool.convert.gguf.model import model_shape
from pitool.errors import UsageError
from pitool.planning import offers, rentals
from pitool.planning.formats import GGUF
from pitool.planning.formats.base import PlannedModel
from pitool.planning.memory import Load
from pitool.planning.offers import EIGHT, FOUR, SIXTEEN, PricedBoard
from pitool.planning.places import Verdict, board_place, tier_places
from pitool.planning.planner import Planner
from pitool.planning.rentals import gpus
from pitool.planning.shapes import typical_shape

KINDS = [GGUF.find(name) for name in GGUF.common]


def planner(parameters: float = 3e9) -> Planner:
    return Planner(
        PlannedModel("m", typical_shape(parameters)), find_profile("balanced"), Load(context=4096)
    )


def everything(prices: Mapping[str, float] | None = None) -> list[PricedBoard]:
    return list(offers.priced_boards(tier_places(), prices or {}))


@pytest.fixture
def fourteen(shared_data: Path) -> Planner:
    """Qwen2.5-14B-Instruct with a LoRA adapter of rank 16, half precision."""
    config = read_config(shared_data / "configs" / "Qwen2.5-14B-Instruct")
    shape = model_shape(config)
    return Planner(
        PlannedModel("", shape), find_profile("balanced"), Load(4096, adapter=138_000_000)
    )


# What was tried, and the estimates of facts on rented cards: name -> (8-bit, 4-bit).
SEEN = {
    "AMPERE_16": (False, True), "AMPERE_24": (True, True), "ADA_24_PRO": (True, True),
    "ADA_32_PRO": (True, True), "AMPERE_48": (True, True), "ADA_48_PRO": (True, True),
    "AMPERE_80": (True, True), "ADA_80_PRO": (True, True), "BLACKWELL_96": (True, True),
    "HOPPER_141": (True, True), "BLACKWELL_180_PRO": (True, True), "T4_SMALL": (False, True),
    "T4_MEDIUM": (False, True), "A10G": (True, True), "A100_40": (True, True),
}  # fmt: skip


def test_verdicts_on_rented_cards_are_those_that_were_seen(fourteen: Planner) -> None:
    found = {r.name: r for r in rentals.rentals(fourteen)}
    assert {name: (r.fits(EIGHT), r.fits(FOUR)) for name, r in found.items()} == SEEN
    assert found["A100_40"].fits(SIXTEEN)
    assert found["T4_SMALL"].rows[EIGHT].verdict is Verdict.NO
    checkpoint = found["T4_SMALL"].rows[SIXTEEN].artifact.bytes
    assert not found["T4_SMALL"].gpu.holds(checkpoint)
    assert found["T4_MEDIUM"].gpu.holds(checkpoint)


def test_the_cheapest_card_is_the_cheapest_that_fits(fourteen: Planner) -> None:
    found = rentals.rentals(fourteen)
    for quantisation in (SIXTEEN, EIGHT, FOUR):
        best = rentals.cheapest(found, quantisation)
        assert best
        others = [r.gpu.usd_hour for r in found if r.fits(quantisation) and r.gpu.usd_hour]
        assert best.gpu.usd_hour == min(others)
    assert rentals.cheapest([], FOUR) is None


def test_energy_and_price_by_hand() -> None:
    offer = next(o for o in offers.offers(planner(), everything()) if o.name == "pi5-8gb")
    decode = offer.four.artifact.estimates[0].decode
    assert offer.joules_per_token == pytest.approx(13.8 / decode)
    assert offer.usd_per_rate == pytest.approx(175 / decode)
    hours = 1e6 / decode / 3600
    assert offer.usd_per_million(0.3) == pytest.approx(hours * 0.0138 * 0.3)
    paid = rentals.payback(offer, 0.4, 0.3)
    assert paid
    assert paid.hours == pytest.approx(175 / (0.4 - 0.00414))
    assert paid.tokens == pytest.approx(175 / (0.4 - 0.00414) * 3600 * decode)
    assert rentals.payback(offer, 0.001, 0.3) is None


def test_boards_are_sorted_and_prices_replaced() -> None:
    found = offers.offers(planner(), everything({"pi5-8gb": 1.0}))
    assert found[0].name == "pi5-8gb"
    assert (found[0].price, found[0].date) == (1.0, "yours")
    ranks = [offers.RANK[o.four.verdict] for o in found]
    assert ranks == sorted(ranks)


def test_choices_fit_and_say_what_more_would_bring() -> None:
    made = {c.purpose: c for c in offers.choices(offers.offers(planner(), everything()))}
    assert set(made) == {"tight budget", "quality", "headroom"}
    assert all(c.offer.four.verdict is Verdict.FITS for c in made.values())
    fitting = [o for o in offers.offers(planner(), everything()) if o.four.verdict is Verdict.FITS]
    assert made["tight budget"].offer.price == min(o.price for o in fitting if o.price)
    assert made["quality"].offer.eight.verdict is Verdict.FITS
    assert made["headroom"].offer.four.left == max(o.four.left for o in fitting if o.price)
    assert made["tight budget"].offer.name == "pi4b-3gb"
    assert made["tight budget"].next_up == "pi4b-4gb for 16.25 USD more: 1.00 GB more free memory"
    assert offers.choices(offers.offers(planner(70e9), everything())) == []


@pytest.mark.thorough
@pytest.mark.parametrize("rate", [0.5, 3.0, 8.0])
def test_what_reaches_a_rate_does(rate: float) -> None:
    found = offers.matches(planner(), rate, KINDS, everything())
    assert found
    assert all(r.row.artifact.estimates[0].decode >= rate for r in found)
    assert all(r.row.verdict is Verdict.FITS for r in found)
    assert offers.matches(planner(), 1e6, KINDS, everything()) == []
    best = offers.fastest(planner(), KINDS, everything())
    assert best
    top = best.row.artifact.estimates[0].decode
    assert offers.matches(planner(), top, KINDS, everything())
    assert offers.matches(planner(), top * 1.001, KINDS, everything()) == []
    assert offers.fastest(planner(200e9), KINDS, everything()) is None


def test_every_ram_size_that_is_sold_is_offered_once() -> None:
    found = [one.place.name for one in everything()]
    assert sorted(found) == sorted(f"{k}-{r.tier}" for k, b in boards().items() for r in b.ram)
    pi5 = boards()["pi5"]
    gone = replace(pi5, ram=tuple(replace(r, available=r.tier == "4gb") for r in pi5.ram))
    places = [board_place("pi5", gone, ram) for ram in gone.ram]
    assert [one.place.name for one in offers.priced_boards(places, {})] == ["pi5-4gb"]


@pytest.mark.parametrize(
    "text", ["pi5-8gb", "pi5-8gb=", "pi5-8gb=-3", "pi5-8gb=0", "pi5-8gb=nan", "pi5-8gb=inf"]
)
def test_what_is_no_price(text: str) -> None:
    with pytest.raises(UsageError, match="is not a price"):
        offers.read_prices([text])


def test_an_unknown_board_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'pi5-8gb'"):
        offers.read_prices(["pi5-8g=100"])


def test_cards_have_dates_where_they_have_prices() -> None:
    assert len(gpus()) >= 15
    for gpu in gpus().values():
        assert (gpu.usd_hour is None) == (gpu.price_date is None)

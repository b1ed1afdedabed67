"""Rented cards: speeds by bandwidth, what changing saves, and cards that have no price."""

from __future__ import annotations

import pytest

from pitool.catalog.profiles import find_profile
from pitool.errors import UsageError
from pitool.planning import rentals
from pitool.planning.accelerators import accelerators, cpu_decodes
from pitool.planning.formats.base import PlannedModel
from pitool.planning.memory import Load
from pitool.planning.offers import EIGHT, FOUR, SIXTEEN
from pitool.planning.planner import Planner
from pitool.planning.rentals import Rental
from pitool.planning.shapes import sizes


def planner(size: float = 14e9) -> Planner:
    model = PlannedModel("", sizes()[size].shape)
    return Planner(model, find_profile("balanced"), Load(4096))


def card(name: str, size: float = 14e9) -> Rental:
    return rentals.find_rental(rentals.rentals(planner(size)), name)


def test_every_card_with_a_price_names_its_provider_and_the_date() -> None:
    for name, gpu in rentals.gpus().items():
        assert (gpu.usd_hour is None) == (gpu.provider is None) == (gpu.price_date is None), name
        assert gpu.card
        assert gpu.bandwidth_gbs


def test_the_speed_is_the_used_bandwidth_over_the_weights_that_are_read() -> None:
    """Qwen2.5-14B at 8 bits: 14.77 billion weights less the embedding, 34 bytes for 32."""
    read = (14_769_689_600 - 152_064 * 5120) * 34 / 32
    used = 600e9 * 112.8 * 2.02 / 360
    assert card("a10g").decode[EIGHT] == pytest.approx(used / read, rel=0.01)


def test_the_card_that_the_share_is_from() -> None:
    """An RTX 3060 with 360 GB/s gave 112.8 tokens/s with Llama 3.2 3B in Q4_K_M."""
    found = card("A10G", 3e9)
    assert found.decode[FOUR] * 360 / 600 == pytest.approx(112.8, rel=0.03)


def test_what_changing_saves_by_hand() -> None:
    found = rentals.rentals(planner())
    made = {c.to.name: c for c in rentals.changes(found, card("ADA_80_PRO"))}
    a10g = made["A10G"]
    assert a10g.quantisation == EIGHT
    assert a10g.hour == pytest.approx(4.18 - 1.00)
    assert a10g.day == pytest.approx(76.32)
    assert a10g.month == pytest.approx(3.18 * 730)
    assert a10g.share == pytest.approx(3.18 / 4.18)
    assert made["AMPERE_48"].quantisation == SIXTEEN
    saved = [change.hour for change in made.values()]
    assert saved == sorted(saved, reverse=True)
    assert all(value > 0 for value in saved)


def test_a_card_without_a_price_is_part_of_no_comparison() -> None:
    found = rentals.rentals(planner())
    assert next(r for r in found if r.gpu.usd_hour is None).fits(FOUR)
    for quantisation in (SIXTEEN, EIGHT, FOUR):
        best = rentals.cheapest(found, quantisation)
        assert best
        assert best.gpu.usd_hour is not None
    changes = rentals.changes(found, card("BLACKWELL_180_PRO"))
    assert "A100_40" not in {change.to.name for change in changes}
    with pytest.raises(UsageError, match="A100_40 has no price"):
        card("A100_40")
    with pytest.raises(UsageError, match="unknown card 'A10': did you mean 'A10G'"):
        card("A10")


def test_the_cheapest_has_nothing_to_change_to() -> None:
    found = rentals.rentals(planner())
    assert list(rentals.changes(found, card("T4_SMALL"))) == []


def test_the_hat_is_no_faster_than_the_cpu_and_a_gpu_is() -> None:
    """As its maker published it: 6.95, 8.18 and 2.67; a Pi 5 was seen at 9 to 12 and at 5 to 6."""
    cpu = cpu_decodes()
    assert 9 <= cpu["1.5b"] <= 13
    assert 4.5 <= cpu["3b"] <= 6.5
    hat, gpu = accelerators()["ai_hat_plus_2"], accelerators()["used_gpu"]
    assert not hat.faster(cpu)
    assert gpu.faster(cpu)
    assert {s["decode"] for s in hat.to_json(cpu)["speeds"]} == {6.95, 8.18, 2.67}
    assert gpu.to_json(cpu)["watts"] == 192

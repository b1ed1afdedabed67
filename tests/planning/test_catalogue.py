"""The catalogue judged for boards: against what others measured, and by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pitool.catalog.recipes import recipes
from pitool.catalog.tiers import tiers
from pitool.planning.catalogue import OPEN, READING, Entry, catalogue, judge, smaller
from pitool.planning.places import Place, Verdict, tier_of
from pitool.planning.report import find_places


def place(board: str | None, ram: str) -> Place:
    (found,) = find_places(ram, board)
    return found


def entry(name: str, where: Place) -> Entry:
    return judge(name, recipes()[name], where)


@pytest.mark.parametrize(
    ("name", "ram", "measured"),
    [
        # Published for a Pi 5: potato-os (Gemma 4 E2B 6.0 to 6.8; Qwen3.5-2B Q4_K_M 7.8),
        # ai-benchmarks (Qwen3-30B-A3B at 2.70 bits 8.0), edge-format-tax (1.5B Q4_K_M 9 to 12).
        ("gemma-4-e2b", "8gb", 6.4),
        ("qwen3.5-2b", "4gb", 7.8),
        ("qwen3-30b-a3b", "16gb", 8.0),
        ("qwen2.5-1.5b", "2gb", 10.5),
        ("qwen2.5-0.5b", "2gb", 26.0),
    ],
)
def test_speeds_are_those_that_others_saw(name: str, ram: str, measured: float) -> None:
    """Within a third, where neither size nor shape of some is known."""
    assert entry(name, place("pi5", ram)).decode == pytest.approx(measured, rel=0.34)


def test_memory_by_hand() -> None:
    """Qwen3-4B Q4_K_M on a Pi 5: the published file, 144 KiB of cache a token, the rest."""
    found = entry("qwen3-4b", place("pi5", "4gb"))
    assert found.bytes == 2_497_280_256
    cache, copy = 4096 * 147_456, 151_936 * 2560 * 210 // 256  # a tied embedding is kept twice
    assert found.needed == pytest.approx(2_497_280_256 + cache + copy + 200e6, rel=0.03)
    assert not found.estimated
    assert entry("qwen3.5-2b", place("pi5", "4gb")).estimated


def test_a_published_size_moves_memory_and_speed_by_as_much() -> None:
    where = place("pi5", "8gb")
    recipe = recipes()["granite-4.1-3b"]
    assert recipe.gguf
    assert recipe.gguf.bytes == 2_099_501_664
    larger = replace(recipe, gguf=replace(recipe.gguf, bytes=2 * 2_099_501_664))
    one, two = judge("a", recipe, where), judge("b", larger, where)
    assert two.needed - one.needed == 2_099_501_664
    assert one.left - two.left == 2_099_501_664
    assert two.decode == pytest.approx((one.decode or 0) / 2)


@pytest.mark.parametrize("ram", ["1gb", "2gb", "4gb", "8gb", "16gb"])
def test_the_recommended_one_is_first_open_fits_and_is_as_fast_as_reading(ram: str) -> None:
    found = catalogue(place("pi5", ram))
    first = found[0]
    assert [e.recommended for e in found] == [True] + [False] * (len(found) - 1)
    assert first.fits
    assert first.recipe.licence in OPEN
    assert (first.decode or 0) >= READING
    larger = [
        e for e in found
        if e.fits and e.recipe.licence in OPEN and (e.decode or 0) >= READING
        and not e.recipe.special and e.recipe.parameters > first.recipe.parameters
    ]  # fmt: skip
    assert not larger


def test_where_nothing_is_fast_the_fastest_is_recommended() -> None:
    found = catalogue(place("zero2w", "512mb"))
    fitting = [e for e in found if e.fits]
    assert found[0].decode == max(e.decode or 0 for e in fitting)


def test_what_does_not_fit_comes_last() -> None:
    verdicts = [e.verdict for e in catalogue(place("pi4b", "4gb"))][1:]
    order = [Verdict.FITS, Verdict.TIGHT, Verdict.NO]
    assert verdicts == sorted(verdicts, key=order.index)


@pytest.mark.parametrize("ram", ["1gb", "2gb", "3gb", "4gb", "8gb", "16gb"])
def test_three_models_fit_the_smallest_board_of_each_tier(ram: str) -> None:
    fitting = [e for e in catalogue(place(None, ram)) if e.fits and ram in e.recipe.tiers]
    assert len(fitting) >= 3, [e.name for e in fitting]


def test_a_smaller_one_is_named() -> None:
    where = place("pi5", "2gb")
    found = smaller(where, 14_000_000_000)
    assert found
    assert found.fits
    assert smaller(where, 1) is None


def test_the_tier_of_a_machine() -> None:
    room = tiers()["4gb"].model_bytes
    assert tier_of(Place("here", "here", room, 0, {})) == "4gb"
    assert tier_of(Place("here", "here", room - 1, 0, {})) == "3gb"
    assert tier_of(Place("here", "here", 1, 0, {})) == "512mb"
    assert tier_of(place(None, "1gb")) == "1gb"

"""Lints ``recipes/boards.toml``, and what the loader makes of it."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import pytest

from pitool.catalog import tables
from pitool.catalog.boards import Board, boards, boards_with, find_board, load_boards
from pitool.catalog.tiers import tiers
from pitool.errors import BadInput, UsageError

KNOWN_FEATURES = {"neon", "crc", "fp16", "dotprod"}
# Each of these says more than a name, and so where it is from.
FIGURES = {
    "compatible",
    "revision_types",
    "soc",
    "clock_mhz",
    "features",
    "page_kib",
    "decode_threads",
    "bandwidth_all_gbs",
    "bandwidth_gbs",
    "decode_error",
    "prefill_error",
    "prefill_gflops",
    "cache_mib",
    "ram",
}

every_board = pytest.mark.parametrize(
    ("key", "board"), [pytest.param(k, b, id=k) for k, b in boards().items()]
)


def test_every_board_of_the_64_bit_family_is_there() -> None:
    assert set(boards()) == {
        "zero2w", "pi3b", "pi3bplus", "pi3aplus", "pi4b", "pi400", "cm4",
        "pi5", "pi500", "pi500plus", "cm5",
    }  # fmt: skip


def test_names_are_unique() -> None:
    names = [board.name for board in boards().values()]
    assert len(set(names)) == len(names)


@every_board
def test_the_id_is_one_short_lower_case_word(key: str, board: Board) -> None:
    assert re.fullmatch(r"[a-z0-9]{2,12}", key)


@every_board
def test_each_figure_has_a_source_and_each_source_a_figure(key: str, board: Board) -> None:
    expected = set(FIGURES)
    if board.watts:
        expected.add("watts")
    for name in ("read_gbs", "ethernet_mbit", "fan", "supply", "bootloader"):
        if getattr(board, name):
            expected.add(name)
    for name in ("sensors", "throttle_c"):
        if getattr(board, name) != Board.__dataclass_fields__[name].default:
            expected.add(name)
    if any(ram.price_usd for ram in board.ram):
        expected.add("price_usd")
    assert set(board.sources) == expected
    assert all(len(source) >= 10 for source in board.sources.values())


@every_board
def test_features_are_known_and_fit_the_core(key: str, board: Board) -> None:
    assert set(board.features) <= KNOWN_FEATURES
    assert len(set(board.features)) == len(board.features)
    assert board.dotprod == (board.cpu == "Cortex-A76")
    assert ("fp16" in board.features) == board.dotprod


@every_board
def test_pages_are_16_kib_on_the_pi_5_family_only(key: str, board: Board) -> None:
    assert board.page_kib == (16 if board.soc == "BCM2712" else 4)


@every_board
def test_figures_are_possible(key: str, board: Board) -> None:
    assert 1 <= board.decode_threads <= board.cores
    assert 600 <= board.clock_mhz <= 3000
    # Below what the RAM could give: LPDDR2-900, LPDDR4-3200 and LPDDR4X-4267, 32 bits wide.
    ceiling = {"Cortex-A53": 3.6, "Cortex-A72": 12.8, "Cortex-A76": 17.1}[board.cpu]
    assert 0 < board.bandwidth_gbs < ceiling
    # Below what the cores could do: 8-bit dot products of 16 numbers, else 8 products in F32.
    width = 2 * 2 * 16 if board.dotprod else 2 * 8
    assert 0 < board.prefill_gflops < board.cores * board.clock_mhz / 1e3 * width
    assert 0.25 <= board.cache_mib <= 8
    if board.watts:
        assert 0 < board.watts.idle < board.watts.load < 30


@every_board
def test_nothing_is_repacked_without_dotprod(key: str, board: Board) -> None:
    assert bool(board.repacked) == bool(board.costs.interleaved) == board.dotprod
    assert board.kernels == ("dotprod" if board.dotprod else "neon")


@every_board
def test_ram_is_of_a_tier_and_holds_what_the_tier_counts_on(key: str, board: Board) -> None:
    assert board.ram
    for ram in board.ram:
        tier = tiers()[ram.tier]
        assert tier.mem_total_mib <= ram.mem_total_mib < tier.ram_mib
    assert len({ram.tier for ram in board.ram}) == len(board.ram)


@every_board
def test_a_price_has_a_date_and_a_date_a_price(key: str, board: Board) -> None:
    for ram in board.ram:
        assert (ram.price_usd is None) == (ram.price_date is None)
        if ram.price_date is not None:
            assert re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", ram.price_date)


def test_some_prices_are_known_and_rise_with_the_ram() -> None:
    prices = [ram.price_usd for ram in boards()["pi5"].ram]
    assert None not in prices
    assert prices == sorted(prices, key=lambda price: price or 0)


def test_boards_that_share_a_name_differ_in_their_ram() -> None:
    for one, other in combinations(boards().values(), 2):
        shared = set(one.compatible) & set(other.compatible)
        shared_types = set(one.revision_types) & set(other.revision_types)
        assert bool(shared) == bool(shared_types)
        if shared:
            assert not {r.tier for r in one.ram} & {r.tier for r in other.ram}


@every_board
def test_compatible_and_revision_type_have_their_form(key: str, board: Board) -> None:
    assert board.compatible
    assert board.revision_types
    assert all(re.fullmatch(r"raspberrypi,[a-z0-9-]+", name) for name in board.compatible)
    assert all(0 < code <= 0xFF for code in board.revision_types)


def test_find_board_names_the_nearest() -> None:
    assert find_board("pi5").name == "Raspberry Pi 5"
    with pytest.raises(UsageError, match="unknown board 'pi4': did you mean 'pi4b'"):
        find_board("pi4")


def test_boards_with_a_tier() -> None:
    assert set(boards_with("16gb")) == {"pi5", "pi500plus", "cm5"}
    assert set(boards_with("512mb")) == {"zero2w", "pi3aplus"}
    assert boards_with("6gb") == {}


def test_a_wrong_key_in_a_board_names_file_and_board(tmp_path: Path) -> None:
    path = tmp_path / "boards.toml"
    text = (tables.recipes_folder() / "boards.toml").read_text(encoding="utf-8")
    path.write_text(text.replace("bandwidth_gbs = 11.8", "bandwith_gbs = 11.8", 1), "utf-8")
    with pytest.raises(
        BadInput, match=r"boards\.toml: pi5 has an unknown key 'bandwith_gbs': .*'bandwidth_gbs'"
    ):
        load_boards(path)


def test_a_board_that_is_no_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "boards.toml"
    path.write_text("pi5 = 5\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"boards\.toml: pi5 is not a table"):
        load_boards(path)

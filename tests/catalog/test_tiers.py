"""Lints ``recipes/tiers.toml``, and the spellings that a user may type."""

from __future__ import annotations

from pathlib import Path

import pytest

from pitool.catalog.boards import boards, boards_with
from pitool.catalog.tiers import MIB, Tier, find_tier, load_tiers, tiers
from pitool.errors import BadInput, UsageError

every_tier = pytest.mark.parametrize(
    ("key", "tier"), [pytest.param(k, t, id=k) for k, t in tiers().items()]
)


def test_the_tiers_are_the_ram_sizes_in_order() -> None:
    assert list(tiers()) == ["512mb", "1gb", "2gb", "3gb", "4gb", "8gb", "16gb"]
    assert [tier.ram_mib for tier in tiers().values()] == [512, 1024, 2048, 3072, 4096, 8192, 16384]


@every_tier
def test_memory_is_the_smallest_of_the_boards(key: str, tier: Tier) -> None:
    sizes = [
        ram.mem_total_mib for board in boards().values() for ram in board.ram if ram.tier == key
    ]
    assert boards_with(key)
    assert tier.mem_total_mib == min(sizes)


@every_tier
def test_the_margin_is_5_percent_rounded_up_to_8_mib(key: str, tier: Tier) -> None:
    assert tier.margin_mib == -(-tier.mem_total_mib // 160) * 8


@every_tier
def test_the_rest_is_for_the_model(key: str, tier: Tier) -> None:
    assert tier.model_bytes == (tier.mem_total_mib - tier.os_mib - tier.margin_mib) * MIB
    assert 0.5 * tier.mem_total_mib * MIB < tier.model_bytes < tier.ram_mib * MIB
    assert len(tier.source) >= 20


@pytest.mark.parametrize(
    "spelling", ["8gb", "8GB", "8 GiB", "8g", " 8Gb ", "8  G", "8192mb", "8192 MiB"]
)
def test_spellings_of_8_gb(spelling: str) -> None:
    assert find_tier(spelling) == ("8gb", tiers()["8gb"])


def test_a_tier_below_1_gb() -> None:
    assert find_tier("512 MB")[0] == "512mb"


@pytest.mark.parametrize(
    ("size", "tier"), [("2560mb", "2gb"), ("6 GiB", "4gb"), ("32gb", "16gb"), ("768m", "512mb")]
)
def test_a_size_between_tiers_names_the_one_inside(size: str, tier: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_tier(size)
    assert caught.value.what == f"unknown RAM tier {size!r}"
    assert caught.value.do == f"did you mean {tier!r}?"
    assert caught.value.exit_code == 2


def test_a_size_below_every_tier_is_refused() -> None:
    with pytest.raises(
        UsageError, match="256mb is too small for any model: choose from: 512mb, 1gb"
    ):
        find_tier("256mb")


@pytest.mark.parametrize("text", ["", "big", "8", "8tb", "-8gb"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="unknown RAM tier"):
        find_tier(text)


def test_a_tier_without_room_for_a_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiers.toml"
    path.write_text(
        "[256mb]\nram_mib = 256\nmem_total_mib = 180\nos_mib = 150\nmargin_mib = 30\n"
        "source = 'x'\n",
        encoding="utf-8",
    )
    with pytest.raises(BadInput, match=r"tiers\.toml: 256mb: .*leave no memory for a model"):
        load_tiers(path)


def test_a_missing_figure_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tiers.toml"
    path.write_text("[1gb]\nram_mib = 1024\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"tiers\.toml: 1gb has no 'mem_total_mib'"):
        load_tiers(path)

"""Lists and ranges by llama-bench's rules."""

from __future__ import annotations

import pytest

from pitool.bench import grid
from pitool.bench.grid import Grid
from pitool.engine.base import Settings
from pitool.errors import UsageError

BASE = Settings(context=64, decode_threads=2, prefill_threads=4)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("512", (512,)),
        ("128,512", (128, 512)),
        ("1-4", (1, 2, 3, 4)),
        ("1-8+3", (1, 4, 7)),
        ("1-8*2", (1, 2, 4, 8)),
        ("100-150*2", (100,)),
        ("0,4-5", (0, 4, 5)),
        (" 7 ,8", (7, 8)),
    ],
)
def test_ranges(text: str, values: tuple[int, ...]) -> None:
    assert grid.numbers("-p", text) == values


@pytest.mark.parametrize(
    "text", ["", "4-", "-4", "1-4+0", "1-4*0", "1-4*1", "5-4", "1,,2", "0-4*2"]
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        grid.numbers("-p", text)


def test_too_many_values_are_refused_without_making_them() -> None:
    with pytest.raises(UsageError, match="values"):
        grid.numbers("-p", "1-9999999")


def test_nothing_asked_for_keeps_what_the_board_has() -> None:
    base = Settings(context=640, decode_threads=3, prefill_threads=4)
    assert list(Grid().settings(base)) == [base]


def test_a_micro_batch_is_no_larger_than_its_batch() -> None:
    base = Settings(context=640, decode_threads=3, prefill_threads=4)
    made = Grid(batches=(64, 512), micro_batches=(128,), threads=(2,)).settings(base)
    assert [(s.batch, s.micro_batch, s.decode_threads, s.prefill_threads) for s in made] == [
        (64, 64, 2, 2),
        (512, 128, 2, 2),
    ]


def test_the_context_holds_the_deepest_test() -> None:
    assert Grid((128, 512), (700,), depths=(0, 1000)).context == 1700


def test_the_type_of_values_does_not_follow_that_of_keys() -> None:
    """As in llama-bench: ``-ctk q8_0`` leaves the values as they are."""
    (only,) = Grid(key_types=("q8_0",)).settings(BASE)
    assert (only.kv_type, only.value_type) == ("q8_0", "f16")
    (same,) = Grid(key_types=("f16",)).settings(BASE)
    assert same == BASE


def test_load_modes_and_repacking_take_lists() -> None:
    found = list(Grid(load_modes=("mmap", "read"), repack=(True, False)).settings(BASE))
    assert [(s.load_mode, s.repack) for s in found] == [
        ("mmap", True),
        ("mmap", False),
        ("read", True),
        ("read", False),
    ]
    assert Grid(repack=(True, False), batches=(64,)).varied == {"repack"}
    assert (
        len(list(Grid(repack=(True, False), threads=(1, 2)).of_format("onnx").settings(BASE))) == 2
    )

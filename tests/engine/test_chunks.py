"""How a prompt is cut into calls: about a second each, and never a slow rest."""

from __future__ import annotations

import pytest

from pitool.engine.generate import CHUNK_STEP, next_chunk


def cut(prompt: int, rate: float, largest: int = 512) -> list[int]:
    parts: list[int] = []
    while sum(parts) < prompt:
        parts.append(next_chunk(prompt - sum(parts), rate if parts else 0.0, largest))
    return parts


@pytest.mark.parametrize("rate", [0, 30, 100, 130, 900, 1e5])
@pytest.mark.parametrize("largest", [128, 200, 512])
def test_no_part_is_smaller_than_a_step(rate: float, largest: int) -> None:
    for prompt in range(CHUNK_STEP, 1500, 7):
        parts = cut(prompt, rate, largest)
        assert sum(parts) == prompt
        assert min(parts) >= CHUNK_STEP
        assert max(parts) <= largest


@pytest.mark.parametrize("largest", [1, 8, 64])
def test_a_small_micro_batch_is_filled(largest: int) -> None:
    parts = cut(300, 1000.0, largest)
    assert set(parts[:-1]) == {largest}
    assert sum(parts) == 300


def test_a_part_is_about_a_second_of_work() -> None:
    assert cut(1024, 210.0) == [64, 192, 192, 192, 192, 192]
    assert cut(256, 20.0) == [64, 64, 64, 64]


def test_a_fast_machine_takes_all_after_the_first_part() -> None:
    assert cut(512, 5000.0) == [64, 448]
    assert cut(120, 5000.0) == [120]

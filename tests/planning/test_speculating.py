"""Speeds with guessed tokens, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pitool.catalog.task_kinds import TaskKind
from pitool.planning.speculating import speculative_decodes
from pitool.planning.speed import Estimate
from tests.planning.shapes import shape

# One more token of a prefill takes a tenth of a decode.
BOARD = Estimate("pi5", 100.0, 10.0, 9.0, "memory", 0.35, 0.2)
KINDS = {
    "edit": TaskKind("", ("x",), {"4": (2.0, 3.5), "8": (2.4, 6.0)}),
    "chat": TaskKind("", ("x",), {"4": (1.0, 1.1), "8": (1.0, 1.2)}),
    "new": TaskKind("", ("x",)),
}


def test_ranges_are_those_by_hand() -> None:
    found = speculative_decodes(shape(), BOARD, KINDS)
    # At worst a pass of four costs 1 + 3 * 2 * 0.1 = 1.6, one of eight 2.4; at best 1 both.
    assert found["edit"] == pytest.approx((10 * 2.0 / 1.6, 10 * 6.0))
    assert found["chat"] == pytest.approx((10.0, 12.0))
    assert list(found) == ["edit", "chat"]


def test_arithmetic_bounds_what_a_pass_gains() -> None:
    slow = replace(BOARD, prefill=20.0)  # a token of a prefill takes half a decode
    assert speculative_decodes(shape(), slow, KINDS)["edit"] == pytest.approx((10.0, 17.5))

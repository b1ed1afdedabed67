"""The table of techniques: every row can be imported and says what it is."""

from __future__ import annotations

import pytest

from pitool.convert.techniques import TECHNIQUES, find_technique, find_techniques
from pitool.convert.techniques.base import Technique
from pitool.errors import UsageError

MINE = Technique(
    name="mine-int8", title="Mine", effect="Does nothing.", source="here",
    make=lambda _bench: iter(()), bits=8,
)  # fmt: skip


@pytest.mark.parametrize("name", TECHNIQUES)
def test_every_row_says_what_it_is(name: str) -> None:
    technique = find_technique(name)
    assert technique.name == name == name.lower()
    assert technique.title and technique.source
    assert technique.effect.endswith(".")
    assert 1 <= technique.bits <= 32


def test_a_technique_is_in_one_row_only() -> None:
    assert len(set(TECHNIQUES.values())) == len(TECHNIQUES)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="fp16"):
        find_technique("fp61")


def test_a_row_added_from_outside_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TECHNIQUES, "mine-int8", (__name__, "MINE"))
    assert find_technique("MINE-int8") is MINE
    assert find_techniques("mine-int8,fp32") == (MINE, find_technique("fp32"))

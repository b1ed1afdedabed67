"""The table of techniques: every row can be imported and says what it is."""

from __future__ import annotations

import pytest

from pitool.convert.techniques import TECHNIQUES, find_technique
from pitool.errors import UsageError


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

"""The sentence that a search hit is shown with, by hand."""

from __future__ import annotations

import pytest

from pitool.store.excerpt import LONGEST, sentence

TEXT = "First of all. The needle is here, in 3.5 words! And then\nanother line"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("needle", "The needle is here, in 3.5 words!"),
        ("NEEDLE IS", "The needle is here, in 3.5 words!"),
        ("first", "First of all."),
        ("another", "another line"),
        ("then", "And then"),
        ("", ""),
        ("nowhere", "First of all."),
    ],
)
def test_by_hand(words: str, found: str) -> None:
    assert sentence(TEXT, words) == found


def test_a_long_sentence_is_cut_on_both_sides() -> None:
    text = "word " * 200 + "needle" + " word" * 200
    found = sentence(text, "needle")
    assert found.startswith("…") and found.endswith("…") and "needle" in found
    assert len(found) <= LONGEST + 10

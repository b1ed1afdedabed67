"""Text that is no Unicode is replaced where it is made, and what was well formed stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pitool.catalog.bundles import Runnable
from pitool.catalog.unicode import well_formed
from pitool.chat.text import attach
from pitool.checkpoint.source import Source
from pitool.engine.base import Message
from pitool.store.conversation import Notice, Question

LATIN = os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain é 😀 \x00", "plain é 😀 \x00"),
        ("a \ud83d b", "a \ufffd b"),
        ("\udce9", "\ufffd"),
        ("end \ud83d", "end \ufffd"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\ud83d\ude00 and \ud83d", "😀 and \ufffd"),
        (LATIN, "caf\ufffd"),
    ],
)
def test_half_a_pair_becomes_the_replacement_character(text: str, expected: str) -> None:
    assert well_formed(text) == expected


def test_what_carries_text_to_an_encoder_is_clean(tmp_path: Path) -> None:
    message = Message("user", LATIN)
    assert message == Message("user", "caf\ufffd")
    assert Question(LATIN).text == Notice(LATIN).what == Source(LATIN, None, None).id == "caf\ufffd"
    assert Runnable(LATIN, "gguf", "F16", tmp_path, 1, 1).name == "caf\ufffd"


def test_a_file_is_attached_by_a_name_that_can_be_shown(tmp_path: Path) -> None:
    path = tmp_path / f"{LATIN}.txt"
    path.write_text("text")
    assert attach(path).before("?") == "caf\ufffd.txt:\n\n```\ntext\n```\n\n?"

"""From a prompt to tokens: what is put before a text, and what is composed in it."""

from __future__ import annotations

import pytest

from pitool.engine.base import Message
from pitool.engine.chat_template import ChatTemplate
from pitool.engine.encoding import Composer, encode


def spell(text: str) -> list[int]:
    return list(text.encode())


def test_a_text_begins_with_the_tokens_of_its_tokenizer_once() -> None:
    assert encode("b", None, [97], spell) == [97, 98]
    assert encode("ab", None, [97], spell) == [97, 98]
    assert encode("", None, [97], spell) == [97]
    assert encode([5, 97], None, [97], spell) == [5, 97]


def test_nothing_is_added_to_what_a_template_renders() -> None:
    template = ChatTemplate("{{ messages[0].content }}")
    assert encode([Message("user", "b")], template, [97], spell) == [98]
    assert encode([Message("user", "b"), Message("user", "c")], None, [97], spell) == [97, *b"b\nc"]


@pytest.mark.parametrize(
    ("text", "composed"),
    [
        ("cafe\u0301", "caf\u00e9"),
        ("<end>\u0338 o\u0308", "<end>\u0338 \u00f6"),
        ("e<end>\u0301", "e<end>\u0301"),
        ("e<other>\u0301", "e<other>\u0301"),
        ("a>\u0338", "a\u226f"),
        ("plain", "plain"),
    ],
)
def test_letters_are_composed_but_no_special_token_is_touched(text: str, composed: str) -> None:
    assert Composer(lambda: ["<end>", "<end>x", ""])(text) == composed


def test_a_vocabulary_without_special_tokens_is_composed_too() -> None:
    assert Composer(list)("o\u0308") == "\u00f6"

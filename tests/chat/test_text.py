"""Pieces of Markdown, thinking, commands and parameters: text in, text out."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pitool.chat import parameters
from pitool.chat import text as texts
from pitool.chat.commands import Command, completions, parse
from pitool.chat.text import (
    MOST_CHARACTERS,
    PIECE_CHARACTERS,
    AnswerParts,
    Attachment,
    Segmenter,
    attach,
    split_thinking,
)
from pitool.engine.base import Sampling
from pitool.errors import BadInput, UsageError

BLOCKS = [
    "A paragraph with *words*.\n\n",
    "## Heading\n\n",
    "- one\n- two\n- three\n\n",
    "1. first\n2. second\n\n",
    "```python\nx = 1\n\ny = 2\n```\n\n",
    "~~~\n```\nnot closed by this\n~~~\n\n",
    "> quoted\n\n",
    "| a | b |\n|---|---|\n| 1 | 2 |\n\n",
]


def pieces(text: str, step: int) -> list[str]:
    """Return the documents that a text becomes when it comes in steps."""
    segmenter, found = Segmenter(), [""]
    for place in range(0, len(text), step):
        for piece in segmenter.feed(text[place : place + step]):
            if piece.begins and found[-1]:
                found.append("")
            found[-1] += piece.text
    return found


def words(markdown: str) -> list[str]:
    """Return what a reader sees, in order, by an independent parser."""
    tokens = MarkdownIt("gfm-like").parse(markdown)
    return " ".join(t.content for t in tokens if t.type in ("inline", "fence")).split()


@given(st.lists(st.sampled_from(BLOCKS), max_size=60), st.integers(1, 97))
def test_pieces_read_like_the_whole(blocks: list[str], step: int) -> None:
    text = "".join(blocks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "PIECE_CHARACTERS", 120)
        found = pieces(text, step)
    assert [word for piece in found for word in words(piece)] == words(text)


def test_pieces_stay_small_also_in_one_long_code_block() -> None:
    code = "```python\n" + "".join(f"line_{n} = {n}\n" for n in range(2000)) + "```\n"
    found = pieces(code, 13)
    assert max(map(len, found)) < PIECE_CHARACTERS + 200
    assert all(piece.startswith("```python\n") for piece in found)
    assert [w for piece in found for w in words(piece)] == words(code)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Hello", AnswerParts("", "Hello", True)),
        ("<thi", AnswerParts("", "", False)),
        ("<think>\nhm", AnswerParts("hm", "", False)),
        ("<think>\nhm\n</think>\n\nFour", AnswerParts("hm", "Four", True)),
        ("hm\n</think>\n\nFour", AnswerParts("hm", "Four", True)),
        ("<think>\n\n</think>\n\nFour", AnswerParts("", "Four", True)),
        ("In HTML <think> is no tag", AnswerParts("", "In HTML <think> is no tag", True)),
        ("", AnswerParts("", "", True)),
        ("[TH", AnswerParts("", "", False)),
        ("[THINK]hm[/THINK]Four", AnswerParts("hm", "Four", True)),
        ("<|channel>thought\nhm", AnswerParts("hm", "", False)),
        ("<|channel>thought\nhm\n<channel|>Four", AnswerParts("hm", "Four", True)),
    ],
)
def test_thinking(text: str, parts: AnswerParts) -> None:
    assert split_thinking(text) == parts


TABLE = (Command("set", "NAME", "sets", choices="names"), Command("save", "", "saves"))


def test_commands() -> None:
    command, argument = parse("/set  a  ", TABLE)
    assert (command.name, argument) == ("set", "a")

    def choices(command: Command) -> str:
        return "ab" if command.choices == "names" else ""

    assert [c.text for c in completions("/s", TABLE, choices)] == ["/set ", "/save"]
    assert [c.text for c in completions("/set ", TABLE, choices)] == ["/set a", "/set b"]
    assert [c.help for c in completions("/set x", TABLE, choices)] == ["/set NAME  sets"]
    assert completions("/set\n", TABLE, choices) == ()
    assert completions("//s", TABLE, choices) == ()
    with pytest.raises(UsageError, match="/sve"):
        parse("/sve", TABLE)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("temp", "0", Sampling(temperature=0)),
        ("repeat-penalty", "1.1", Sampling(repeat_penalty=1.1)),
        ("temperature", "0", Sampling(temperature=0.0)),
        ("top_k", "5", Sampling(top_k=5)),
        ("seed", "off", Sampling()),
        ("max_tokens", "100", Sampling(max_tokens=100)),
        ("stop", "User: \\n", Sampling(stop=("User:", "\n"))),
        ("balanced", "", Sampling()),
    ],
)
def test_parameters(name: str, value: str, expected: Sampling) -> None:
    assert parameters.change(Sampling(), name, value) == expected


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("temperatur", "1", "did you mean 'temperature'"),
        ("top_p", "1.5", "a number from 0 to 1"),
        ("top_k", "", "top_k needs a value"),
        ("temperature", "nan", "temperature cannot be 'nan'"),
    ],
)
def test_refused_parameters(name: str, value: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        parameters.change(Sampling(), name, value)
    assert message in f"{refused.value.what}; {refused.value.do}"


def test_every_sampling_parameter_can_be_set() -> None:
    for name, value, _ in parameters.shown(Sampling()):
        assert parameters.change(Sampling(), name, value) == Sampling()


def test_attachment(tmp_path: Path) -> None:
    sent = Attachment("a.md", "```\ncode\n```\n").before("Why?")
    assert [t.content for t in MarkdownIt().parse(sent) if t.type == "fence"] == [
        "```\ncode\n```\n"
    ]
    (tmp_path / "big.txt").write_bytes(b"a" * 300_000)
    with pytest.raises(BadInput, match="larger than 256 KiB"):
        attach(tmp_path / "big.txt")
    with pytest.raises(BadInput, match="cannot read"):
        attach(tmp_path)


@given(st.integers(1, 997), st.sampled_from(["x" * 9000, "word " * 1800, "line\n" * 1800]))
def test_pieces_stay_small_without_any_good_place(step: int, text: str) -> None:
    found = pieces(text, step)
    assert max(map(len, found)) <= MOST_CHARACTERS + step
    assert "".join(found) == text


def test_a_piece_that_goes_on_with_the_one_before_is_not_apart() -> None:
    code = "```python\n" + "x = 1\n" * 400 + "```\n\n"
    text = "One.\n\n" * 200 + "- item\n" * 200 + "\n\nEnd of it.\n\n" + code + "End."
    begun = [piece for piece in Segmenter().feed(text) if piece.begins]
    for before, piece in pairwise(begun):
        assert piece.apart == before.text.endswith("\n\n")
    assert {piece.apart for piece in begun} == {False, True}

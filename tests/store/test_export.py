"""Exports of a conversation."""

from __future__ import annotations

import json
from pathlib import Path

from markdown_it import MarkdownIt

from pitool.engine.base import Timings
from pitool.store.conversation import Answer, Conversation, Notice, Question, title_of
from pitool.store.export import code_blocks, export, file_name

TALK = Conversation(
    "Be brief.",
    [
        Question("Why?"),
        Answer("Leaf Q4_0", "Because:\n\n```py\nx = 1\n```", Timings(3), "stop"),
        Notice("it broke", "ask again"),
    ],
)


def test_markdown() -> None:
    assert export(TALK, Path("a.md")) == (
        "# Why?\n\n## System prompt\n\nBe brief.\n\n## Question\n\nWhy?\n\n"
        "## Answer (Leaf Q4_0)\n\nBecause:\n\n```py\nx = 1\n```\n\n> it broke; ask again.\n"
    )


def test_json() -> None:
    document = json.loads(export(TALK, Path("a.json")))
    assert document["schema"] == "pitool.conversation/1"
    assert [row["kind"] for row in document["rows"]] == ["question", "answer", "notice"]
    assert document["rows"][1]["timings"]["prompt_tokens"] == 3
    assert document["sampling"]["temperature"] == 0.8


def test_code_blocks_are_those_of_markdown() -> None:
    text = "a\n```py\nx\n```\n\n~~~~\n```\ny\n~~~~\n\n```\nz\n\nw\n```"
    fences = [t.content for t in MarkdownIt().parse(text) if t.type == "fence"]
    assert code_blocks(text) == fences == ["x\n", "```\ny\n", "z\n\nw\n"]


def test_names() -> None:
    assert title_of("\n  First line \nsecond") == "First line"
    assert len(title_of("x" * 100)) == 60
    assert file_name(Conversation(rows=[Question("Is 1/2 < 3? / Ünder")])) == "is-1-2-3-ünder.md"
    assert file_name(Conversation()) == "conversation.md"

"""What the engine gets of a conversation."""

from __future__ import annotations

from pitool.engine.base import Message
from pitool.store.conversation import Answer, Conversation, Notice, Question


def test_notices_stay_out_and_roles_alternate() -> None:
    conversation = Conversation("sys")
    running = Answer("m")
    conversation.rows = [
        Question("a"),
        Answer("m", text=""),
        Notice("it broke"),
        Question("b"),
        Answer("m", text="c"),
        Question("d"),
        running,
    ]
    assert conversation.messages(before=running) == [
        Message("system", "sys"),
        Message("user", "a\n\nb"),
        Message("assistant", "c"),
        Message("user", "d"),
    ]


def test_empty() -> None:
    assert Conversation().messages() == []

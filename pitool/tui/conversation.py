"""A conversation: the rows that are shown, and the messages that the engine gets of them.

Owns text only. Rows are appended and the last answer grows; nothing else changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pitool.engine.base import Finish, Message, Timings, Token


@dataclass(frozen=True, slots=True)
class Question:
    """What the user wrote."""

    text: str


@dataclass(slots=True)
class Answer:
    """What the model wrote so far; ``finish`` is None while it is being written."""

    model: str
    text: str = ""
    timings: Timings | None = None
    finish: Finish | Literal["failed"] | None = None

    def add(self, token: Token) -> None:
        """Take the next token."""
        self.text += token.text
        self.timings = token.timings


@dataclass(frozen=True, slots=True)
class Notice:
    """What pitool has to say: what happened and what to do; never sent to the model."""

    what: str
    do: str = ""

    @property
    def advice(self) -> str:
        """What follows ``what`` in the sentence."""
        return f"; {self.do}." if self.do else "."


Row = Question | Answer | Notice


@dataclass(slots=True)
class Conversation:
    """A system prompt and rows in the order of time."""

    system: str = ""
    rows: list[Row] = field(default_factory=list)

    def messages(self, before: Row | None = None) -> list[Message]:
        """Return the turns up to the row ``before``, users and assistants strictly in turn.

        A question whose answer never began is joined to the next one: many chat templates refuse
        two turns of one role.
        """
        turns = [Message("system", self.system)] if self.system else []
        for row in self.rows:
            if row is before:
                break
            if isinstance(row, Notice) or not row.text:
                continue
            role = "user" if isinstance(row, Question) else "assistant"
            if turns and turns[-1].role == role:
                turns[-1] = Message(role, f"{turns[-1].content}\n\n{row.text}")
            else:
                turns.append(Message(role, row.text))
        return turns

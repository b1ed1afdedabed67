"""A conversation: the rows that are shown, and the messages that the engine gets from them.

Owns text only. Rows are appended and the last answer grows; ``cut`` removes rows, ``set_aside``
keeps them as a variant. A conversation is thus a tree of which ``rows`` is one path.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

from pitool.catalog.unicode import clean
from pitool.engine.base import Finish, Message, Sampling, Timings, Token

TITLE_LENGTH = 60


def _new_key() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Question:
    """What the user wrote."""

    text: str
    key: str = field(default_factory=_new_key, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        clean(self, "text")


@dataclass(slots=True)
class Answer:
    """What the model has written so far; ``finish`` is None while it is still writing.

    ``reused``: prompt tokens that came from a saved prefill.
    """

    model: str
    text: str = ""
    timings: Timings | None = None
    finish: Finish | Literal["failed"] | None = None
    reused: int = 0
    key: str = field(default_factory=_new_key, compare=False, kw_only=True)

    def add(self, token: Token) -> None:
        """Append the next token."""
        self.text += token.text
        self.timings = token.timings


@dataclass(frozen=True, slots=True)
class Notice:
    """A message from pitool: what happened and what to do. Never sent to the model."""

    what: str
    do: str = ""
    key: str = field(default_factory=_new_key, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        clean(self, "what", "do")

    @property
    def advice(self) -> str:
        """What follows ``what`` in the sentence."""
        return f"; {self.do}." if self.do else "."


ConversationRow = Question | Answer | Notice


@dataclass(slots=True)
class Fork:
    """What may follow a row: several tails, of which the one at ``place`` is in the conversation.

    That one is empty here, for its rows are the conversation's.
    """

    tails: list[list[ConversationRow]] = field(default_factory=lambda: [[]])
    place: int = 0


@dataclass(slots=True)
class Conversation:
    """A system prompt, sampling settings, and rows in chronological order.

    ``title`` is empty until the user sets one. The ``dropped`` oldest rows are no longer sent to
    the model, because its context was full. ``forks``: what else followed a row, by its key; by an
    empty one, what else the conversation began with.
    """

    system: str = ""
    rows: list[ConversationRow] = field(default_factory=list)
    title: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    dropped: int = 0
    forks: dict[str, Fork] = field(default_factory=dict)
    key: str = field(default_factory=_new_key, compare=False)

    @property
    def name(self) -> str:
        """The title, or the start of the first question."""
        if self.title:
            return self.title
        first = next((row.text for row in self.rows if isinstance(row, Question)), "")
        return title_of(first)

    @property
    def turns_dropped(self) -> int:
        """The number of questions that the model no longer sees."""
        return sum(isinstance(row, Question) for row in self.rows[: self.dropped])

    def messages(
        self, before: ConversationRow | None = None, dropped: int | None = None
    ) -> list[Message]:
        """Return the turns up to the row ``before``, alternating strictly between the roles.

        A question whose answer never began is joined to the next one, because many chat templates
        reject two consecutive turns of one role.
        """
        turns = [Message("system", self.system)] if self.system else []
        for row in self.rows[self.dropped if dropped is None else dropped :]:
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

    def last_answer(self) -> Answer | None:
        """Return the newest answer, if there is one."""
        return next((row for row in reversed(self.rows) if isinstance(row, Answer)), None)

    def last_question(self) -> Question | None:
        """Return the newest question, if there is one."""
        return next((row for row in reversed(self.rows) if isinstance(row, Question)), None)

    def cut(self, row: ConversationRow) -> list[ConversationRow]:
        """Remove ``row`` and all after it, and return them."""
        place = self._place(row)
        removed, self.rows[place:] = self.rows[place:], []
        self.dropped = min(self.dropped, place)
        return removed

    def set_aside(self, row: ConversationRow) -> list[ConversationRow]:
        """Keep ``row`` and all after it as a variant of what is to come; return them."""
        fork = self.forks.setdefault(self._before(row), Fork())
        fork.tails[fork.place] = removed = self.cut(row)
        fork.place = len(fork.tails)
        fork.tails.append([])
        return removed

    def variant(self, row: ConversationRow) -> tuple[int, int] | None:
        """Return which variant begins with ``row``, from 1, and of how many; None for no others."""
        fork = self.forks.get(self._before(row))
        return (fork.place + 1, len(fork.tails)) if fork else None

    def last_varied(self) -> ConversationRow | None:
        """Return the newest row that there are variants of."""
        return next((row for row in reversed(self.rows) if self.variant(row)), None)

    def turn(self, row: ConversationRow, step: int) -> list[ConversationRow]:
        """Go on with another variant instead of ``row``; return the rows that come and go."""
        fork = self.forks[self._before(row)]
        place = (fork.place + step) % len(fork.tails)
        if place == fork.place:
            return []
        fork.tails[fork.place] = gone = self.cut(row)
        fork.place, come = place, fork.tails[place]
        fork.tails[place] = []
        self.rows += come
        return [*gone, *come]

    @property
    def aside(self) -> Iterator[ConversationRow]:
        """All rows of the variants that the conversation does not go on with."""
        for fork in list(self.forks.values()):  # the session's thread may add one meanwhile
            for tail in list(fork.tails):
                yield from tail

    def empty(self) -> list[ConversationRow]:
        """Remove all rows, the variants too, and return them."""
        removed = [*self.rows, *self.aside]
        self.rows, self.forks, self.dropped = [], {}, 0
        return removed

    def _place(self, row: ConversationRow) -> int:
        return next(i for i, other in enumerate(self.rows) if other is row)

    def _before(self, row: ConversationRow) -> str:
        """Return the key of the row before, an empty one at the beginning."""
        place = self._place(row)
        return self.rows[place - 1].key if place else ""


def title_of(text: str) -> str:
    """Return the first line of a text, shortened to a title."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1].rstrip() + "…"


class Recorder(Protocol):
    """Where a conversation is written while it grows; see ``pitool.store.journal``."""

    def put(self, conversation: Conversation, *rows: ConversationRow) -> None:
        """Have rows written, and the system prompt and sampling with them."""

    def remove(self, conversation: Conversation, rows: list[ConversationRow]) -> None:
        """Have rows deleted."""


class Unrecorded:
    """Writes nothing."""

    def put(self, conversation: Conversation, *rows: ConversationRow) -> None:
        """Do nothing."""

    def remove(self, conversation: Conversation, rows: list[ConversationRow]) -> None:
        """Do nothing."""

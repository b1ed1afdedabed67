"""The prompt of an answer, and what is left out of it when the context is full."""

from __future__ import annotations

from dataclasses import dataclass

from pitool.engine.base import Engine, Message, Prompt
from pitool.store.conversation import Answer, Conversation, Notice, Question

RESERVE = 256
"""Tokens that an answer should find free, or a quarter of the context where that is less."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A prompt and how many of the oldest rows it leaves out."""

    prompt: Prompt
    dropped: int


def fit(engine: Engine, conversation: Conversation, answer: Answer, *, drop: bool) -> Fitted:
    """Return the prompt for an answer that is to begin, or to go on where it has a text.

    Where the turns leave too little room the oldest are dropped until half the context is free:
    dropping one at each question would have the whole rest read again each time.
    """
    context = engine.info.settings.context
    room = context - min(RESERVE, context // 4)
    prompt = _prompt(engine, conversation, answer, conversation.dropped)
    if not drop or len(engine.tokenize(prompt)) <= room:
        return Fitted(prompt, conversation.dropped)
    starts = [
        place
        for place, row in enumerate(conversation.rows)
        if isinstance(row, Question) and place > conversation.dropped
    ]
    low, high = 0, len(starts)
    while low < high:
        middle = (low + high) // 2
        candidate = _prompt(engine, conversation, answer, starts[middle])
        if len(engine.tokenize(candidate)) <= context // 2:
            high = middle
        else:
            low = middle + 1
    if not starts:
        return Fitted(prompt, conversation.dropped)
    dropped = starts[min(low, len(starts) - 1)]
    return Fitted(_prompt(engine, conversation, answer, dropped), dropped)


def _prompt(engine: Engine, conversation: Conversation, answer: Answer, dropped: int) -> Prompt:
    messages = conversation.messages(before=answer, dropped=dropped)
    if not answer.text:
        return messages
    return [*engine.tokenize(messages), *_plain(engine, answer.text)]


def _plain(engine: Engine, text: str) -> list[int]:
    """Return the tokens of a text in the middle of a sequence, without what begins one."""
    return engine.tokenize(text)[len(engine.tokenize("")) :]


def system_prefix(engine: Engine, system: str) -> list[int]:
    """Return the tokens that every conversation with this system prompt begins with."""
    first, second = (
        engine.tokenize([Message("system", system), Message("user", word)]) for word in ("a", "1")
    )
    same = 0
    while same < min(len(first), len(second)) and first[same] == second[same]:
        same += 1
    return first[:same]


def dropped_notice(turns: int) -> Notice:
    """Return what is said when turns are left out."""
    noun = "turn is" if turns == 1 else f"{turns} turns are"
    return Notice(
        f"the context is full: the oldest {noun} not sent to the model any more",
        "/set full stop would rather end the answer",
    )


def full_notice(size: int) -> Notice:
    """Return what is said when an answer ends because there is no room left."""
    return Notice(
        f"the context of {size} tokens is full",
        "/continue leaves out the oldest turns and goes on, Ctrl+N begins a new conversation",
    )

"""What an answer is made of, in the order in which it comes."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class Content:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegun:
    """A tool call begins, the ``index``-th of the answer; ``id``: nine letters and digits."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """A piece of a call's arguments, a JSON object as text."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call is complete; one that is cut off has no end."""

    index: int


Event = Reasoning | Content | CallBegun | CallArguments | CallEnded

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
ID_LENGTH = 9


def new_id() -> str:
    """Return an id for a call; Mistral's templates take nine letters and digits and no other."""
    return "".join(secrets.choice(_LETTERS) for _ in range(ID_LENGTH))


def short_id(text: str) -> str:
    """Return an id of that form which stands for another one, always the same."""
    if len(text) == ID_LENGTH and text.isalnum() and text.isascii():
        return text
    digest = hashlib.sha256(text.encode()).digest()
    return "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:ID_LENGTH])


def joined(events: Iterable[Event]) -> Sequence[Event]:
    """Return events with neighbouring pieces of the same thing as one, and no empty ones."""
    made: list[Event] = []
    for event in events:
        last = made[-1] if made else None
        if isinstance(event, Reasoning | Content | CallArguments):
            if not event.text:
                continue
            if isinstance(last, CallArguments) and isinstance(event, CallArguments):
                if last.index == event.index:
                    made[-1] = replace(last, text=last.text + event.text)
                    continue
            elif isinstance(last, Reasoning | Content) and type(last) is type(event):
                made[-1] = type(last)(last.text + event.text)
                continue
        made.append(event)
    return made

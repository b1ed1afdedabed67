"""A question with its answer, and the words that every kind of turn shares."""

from __future__ import annotations

import random
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facts import Board

QUESTION_WORDS = frozenset(
    (
        "what", "how", "which", "is", "does", "do", "can", "who", "why", "where", "are", "should",
        "when", "with", "will", "in", "at", "could", "what's",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Turn:
    """A clean question and its answer, with what a follow-up may refer to.

    `rephrased` says whether the same content exists in other words, so that this wording may be
    kept out of the training text without keeping the content out.
    """

    question: str
    answer: str
    rephrased: bool = True
    board: Board | None = None
    attribute: str | None = None
    other: Board | None = None
    more: tuple[str, ...] = ()
    before: Board | None = None
    ram: int | None = None


def load(name: str) -> dict[str, Any]:
    """The phrases of the TOML file beside this module."""
    with (Path(__file__).resolve().parent / name).open("rb") as file:
        return tomllib.load(file)


def sentence(text: str) -> str:
    """The text with a capital at its start and after a full stop."""
    return (text[0].upper() + text[1:]).replace(". the ", ". The ")


def asked(text: str, always: bool = False) -> str:
    """The clean question with its mark, unless it is a bare phrase or has one."""
    asks = always or text.split(" ")[0].strip(",").lower() in QUESTION_WORDS
    return text + "?" if asks and text[-1] not in "?!" else text


def named(rng: random.Random, board: Board) -> str:
    """The board as a person writes it."""
    name = rng.choice((board.name, board.short, board.short, *board.aliases))
    return name if name.startswith("the ") else rng.choice(("the ", "the ", "a ", "")) + name


def title(rng: random.Random, board: Board) -> str:
    """The board as an answer names it."""
    return "the " + rng.choice((board.name, board.short))

"""Turns phrase patterns into sentences, and clean questions into questions as people type them.

A pattern holds alternatives in round brackets, which may nest: "(hi|hello( there|))".
"""

from __future__ import annotations

import random
import re

_INNERMOST = re.compile(r"\(([^()]*)\)")
_SPACES = re.compile(r"  +")
_SPACE_BEFORE_MARK = re.compile(r"(?<=\w) (?=[.,?!](\s|$))")
_LEADS = (
    "hey, ", "hi, ", "hello, ", "please tell me: ", "quick question: ", "ok, ", "so ", "well, ",
    "can you tell me, ", "I wonder, ", "question: ", "um, ", "tell me, ", "just curious, ",
)  # fmt: skip
_TAILS = (
    " please",
    ", please",
    " thanks",
    ", do you know",
    " exactly",
    " in short",
    " again",
    " actually",
)
_SHORT = {
    "what is": "whats", "do not": "dont", "does not": "doesnt", "you": "u", "are": "r",
    "please": "pls", "Raspberry Pi": "raspi", "tokens per second": "tok/s", "because": "cuz",
}  # fmt: skip


def expand(rng: random.Random, pattern: str) -> str:
    """One sentence of the pattern."""
    while match := _INNERMOST.search(pattern):
        choice = rng.choice(match[1].split("|"))
        pattern = pattern[: match.start()] + choice + pattern[match.end() :]
    return _SPACE_BEFORE_MARK.sub("", _SPACES.sub(" ", pattern)).strip(" ")


def normal(text: str) -> str:
    """Letters and digits in lower case, as the key that tells two texts apart."""
    return re.sub(r"[^a-z0-9+]+", " ", text.lower()).strip()


def as_typed(rng: random.Random, question: str) -> str:
    """The question with a lead, a tail, short forms, lower case, lost marks or a typing mistake."""
    if rng.random() < 0.12:
        lead = rng.choice(_LEADS)
        question = lead + (
            question if question[:2] in ("I ", "RP") else question[0].lower() + question[1:]
        )
    if rng.random() < 0.06 and "\n" not in question:
        end = question[-1] if question[-1] in "?.!" else ""
        question = question.rstrip("?.!") + rng.choice(_TAILS) + end
    if rng.random() < 0.06:
        long = rng.choice(sorted(_SHORT))
        question = re.sub(rf"\b{long}\b", _SHORT[long], question)
    case = rng.random()
    if case < 0.35:
        question = question.lower()
    elif case < 0.37:
        question = question.upper()
    elif case < 0.75:
        question = question[0].upper() + question[1:]
    if rng.random() < 0.35:
        question = question.rstrip("?.!")
    if rng.random() < 0.07:
        question = _mistyped(rng, question)
    return question


def _mistyped(rng: random.Random, text: str) -> str:
    """The text with one letter lost, doubled or swapped with the next."""
    places = [i for i in range(1, len(text) - 1) if text[i].isalpha() and text[i + 1].isalpha()]
    if not places:
        return text
    i = rng.choice(places)
    kind = rng.randrange(3)
    if kind == 0:
        return text[:i] + text[i + 1 :]
    if kind == 1:
        return text[:i] + text[i] + text[i:]
    return text[:i] + text[i + 1] + text[i] + text[i + 2 :]

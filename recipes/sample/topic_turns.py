"""Turns about all but boards: model sizes and speeds, words, tasks, talk, the world outside."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import facts
import figures
from board_turns import PHRASES
from grammar import expand
from turns import Turn, asked, load, named

GLOSSARY = load("terms.toml")
HOWTO: list[dict[str, Any]] = load("howto.toml")["topic"]
TALK: list[dict[str, Any]] = load("talk.toml")["topic"]
OUTSIDE = load("outside.toml")


def _words(text: str) -> list[str]:
    return [word for word in text.replace("\n", "|").split("|") if word]


THINGS, PEOPLE, PLACES = (_words(OUTSIDE[key]) for key in ("things", "people", "places"))
SYLLABLES = _words(OUTSIDE["syllables"])


def ask_size(rng: random.Random) -> Turn:
    """How large the weights of a model are in a format."""
    n, q = rng.choice(figures.MODEL_BILLIONS), rng.choice(list(figures.FORMAT_BITS))
    ask = expand(rng, rng.choice(PHRASES["size"]["ask"])).format(n=f"{n:g}", q=q)
    gb, bits = f"{figures.model_gb(n, q):.1f}", f"{figures.FORMAT_BITS[q]:g}"
    say = rng.choice(PHRASES["size"]["say"])
    return Turn(asked(ask), say.format(n=f"{n:g}", q=q, gb=gb, bits=bits))


def ask_fit(rng: random.Random) -> Turn:
    """Whether a model fits in so much RAM."""
    return _fit(rng, rng.choice(figures.RAM_GB), "ask")


def follow_fit(rng: random.Random, ram: int) -> Turn:
    """Whether another model fits in the same RAM."""
    return _fit(rng, ram, "next")


def _fit(rng: random.Random, r: int, asks: str) -> Turn:
    n = rng.choice(figures.MODEL_BILLIONS)
    values = {"n": f"{n:g}", "r": str(r), "gb": f"{figures.model_gb(n, 'Q4_0'):.1f}"}
    ask = expand(rng, rng.choice(PHRASES["fit"][asks])).format(**values)
    say = PHRASES["fit"]["yes" if figures.fits(n, "Q4_0", r) else "no"]
    if ask.startswith("do I need more"):
        say = say[2:]
    return Turn(asked(ask), rng.choice(say).format(**values), ram=r)


def ask_speed(rng: random.Random) -> Turn:
    """How fast a model was measured on a board."""
    item = rng.choice(figures.SPEEDS)
    model = item.model if rng.random() < 0.6 else item.model.lower().replace("-", " ")
    pattern = rng.choice(PHRASES["speed"]["ask"])
    on = named(rng, facts.board(item.board))
    ask = expand(rng, pattern.format(m=model, q=item.quant, b=on))
    say = rng.choice(PHRASES["speed"]["say"])
    return Turn(asked(ask), say.format(m=item.model, q=item.quant, d=item.decode, B=item.board))


def _topic(rng: random.Random, ask: str, topic: dict[str, Any]) -> Turn:
    pattern = rng.choice(topic["say"])
    return Turn(asked(ask), expand(rng, pattern), "|" in pattern, more=tuple(topic.get("more", ())))


def ask_term(rng: random.Random) -> Turn:
    """What a word means."""
    topic = rng.choice(GLOSSARY["term"])
    ask = expand(rng, rng.choice(GLOSSARY["explain"])).format(t=rng.choice(topic["terms"]))
    return _topic(rng, ask, topic)


def ask_howto(rng: random.Random) -> Turn:
    """How something is done."""
    topic = rng.choice(HOWTO)
    return _topic(rng, expand(rng, rng.choice(topic["ask"])), topic)


def ask_talk(rng: random.Random) -> Turn:
    """Small talk, and questions about the model itself."""
    topic = rng.choice(TALK)
    ask = expand(rng, rng.choice(topic["ask"]))
    while "{number}" in ask:
        ask = ask.replace("{number}", _number(rng), 1)
    return _topic(rng, ask, topic)


def _number(rng: random.Random) -> str:
    return str(rng.randrange(rng.choice((10, 100, 1000, 3000))))


def _thing(rng: random.Random) -> str:
    """A word from outside, at times one that does not exist, so that any unknown word counts."""
    if rng.random() < 0.7:
        return rng.choice(THINGS)
    article = rng.choice(("", "", "a ", "my "))
    return article + "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 3)))


def ask_outside(rng: random.Random) -> Turn:
    """Something that the model does not know."""
    ask = expand(rng, rng.choice(OUTSIDE["ask"]))
    draws: dict[str, Callable[[], str]] = {
        "{x}": lambda: _thing(rng),
        "{person}": lambda: rng.choice(PEOPLE),
        "{place}": lambda: rng.choice(PLACES),
        "{number}": lambda: _number(rng),
        "{language}": lambda: rng.choice(OUTSIDE["languages"]),
    }
    for mark, draw in draws.items():
        while mark in ask:
            ask = ask.replace(mark, draw(), 1)
    pattern = rng.choice(OUTSIDE["say"])
    return Turn(asked(ask.replace("the the ", "the ").replace("a a ", "a ")), expand(rng, pattern))

"""The built-in texts that certificates are measured on: prose of many languages, code, talks.

They lie in ``recipes/texts``, one file a language, with blank lines between paragraphs. Owns the
choice of what a vocabulary knows; the texts have a README of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import cache
from itertools import count, islice

from pitool.catalog.tables import read_toml, recipes_folder

CODE = "code"
# Paragraphs of a round, by language; one of each other.
SHARES = {"en": 3, CODE: 2}
# A language that takes more tokens for a character is one that the vocabulary does not know.
MOST_TOKENS = 1.05

Tokenize = Callable[[str], list[int]]


def built_in(tokenize: Tokenize, tokens: int) -> str:
    """Return about ``tokens`` tokens of the texts in the languages that a vocabulary knows.

    Languages take turns, so that every window has several.
    """
    return _about(tokenize, tokens, _known(tokenize, languages()))


def prose(tokenize: Tokenize, tokens: int) -> str:
    """Return about ``tokens`` tokens of prose in the languages that a vocabulary knows."""
    return _about(tokenize, tokens, _known(tokenize, [n for n in languages() if n != CODE]))


def code(tokenize: Tokenize, tokens: int) -> str:
    """Return about ``tokens`` tokens of code."""
    return _about(tokenize, tokens, [CODE])


@cache
def talks() -> tuple[tuple[tuple[str, str], ...], ...]:
    """Return conversations: role and text of each turn, the user's first."""
    roles = ("user", "assistant")
    return tuple(
        tuple((roles[i % 2], turn) for i, turn in enumerate(talk["turns"]))
        for talk in read_toml(recipes_folder() / "texts" / "talks.toml")["talk"]
    )


def _known(tokenize: Tokenize, names: Collection[str]) -> list[str]:
    """Return the languages of ``names`` that a vocabulary knows, or the nearest."""
    known = [name for name in names if _price(tokenize, name) <= MOST_TOKENS]
    return known or [min(names, key=lambda name: _price(tokenize, name))]


def _about(tokenize: Tokenize, tokens: int, names: list[str]) -> str:
    """Return paragraphs in rounds until there are so many tokens."""
    taken, found = [], 0
    for paragraph in _rounds(names):
        if found >= tokens:
            break
        taken.append(paragraph)
        found += len(tokenize(paragraph))
    return "\n\n".join(taken)


@cache
def languages() -> dict[str, tuple[str, ...]]:
    """Return the paragraphs of each language; those named in ``SHARES`` come first."""
    paths = {path.stem: path for path in sorted((recipes_folder() / "texts").glob("*.txt"))}
    names = [*(name for name in SHARES if name in paths), *(n for n in paths if n not in SHARES)]
    texts = {name: paths[name].read_text(encoding="utf-8").strip() for name in names}
    return {name: tuple(text.split("\n\n")) for name, text in texts.items()}


def _price(tokenize: Tokenize, name: str) -> float:
    """Return the tokens that a character of a language takes."""
    first = languages()[name][0]
    return len(tokenize(first)) / len(first)


def _rounds(names: list[str]) -> Iterator[str]:
    """Yield every paragraph once, in rounds of a few of each language."""
    left = {name: iter(languages()[name]) for name in names}
    for _ in count():
        paragraphs = [p for name in names for p in islice(left[name], SHARES.get(name, 1))]
        if not paragraphs:
            return
        yield from paragraphs

"""The rules of one grammar in llama.cpp's GBNF, and the expressions that they are made of."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pitool.errors import UsageError

MOST_RULES = 4000
LONGEST_NAME = 60
MOST_CHARACTERS = 1 << 19
LONGEST_REPETITION = 2000
"""llama.cpp's own limit of what is repeated."""


class Rules:
    """Named rules; two with the same body are one."""

    def __init__(self) -> None:
        self._bodies = {"root": ""}
        self._names: dict[str, str] = {}
        self._size = 0

    def add(self, name: str, body: str) -> str:
        """Add a rule and return the name that it got."""
        if body in self._names:
            return self._names[body]
        name = self.reserve(name)
        self.define(name, body)
        self._names[body] = name
        return name

    def reserve(self, name: str) -> str:
        """Return a free name like this one, for a rule that refers to itself."""
        base = re.sub(r"[^a-zA-Z0-9]+", "-", name)[-LONGEST_NAME:].strip("-") or "rule"
        free, count = base, 1
        while free in self._bodies:
            count += 1
            free = f"{base}-{count}"
        self._bodies[free] = ""
        if len(self._bodies) > MOST_RULES:
            raise too_large()
        return free

    def define(self, name: str, body: str) -> None:
        """Give a reserved rule its body."""
        self._bodies[name] = body
        self._size += len(body)
        if self._size > MOST_CHARACTERS:
            raise too_large()

    def forget(self, name: str) -> None:
        """Take a reserved rule back, which nothing refers to."""
        del self._bodies[name]

    def text(self, root: str) -> str:
        """Return the grammar whose answers follow an expression."""
        rules = self._bodies | {"root": root}
        return "".join(f"{name} ::= {body}\n" for name, body in rules.items())


def too_large() -> UsageError:
    """Return the error for a grammar that has no end worth waiting for."""
    return UsageError("the schema makes a grammar that is too large", "use a simpler schema")


def literal(text: str) -> str:
    """Return the expression of a text."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return "\\" + letter
    if letter.isascii() and letter.isprintable():
        return letter
    return f"\\U{ord(letter):08X}"


def any_letter(spans: Iterable[tuple[int, int]]) -> str:
    """Return the expression of one character of some ranges of code points, ends included."""
    parts = (_bound(a) if a == b else f"{_bound(a)}-{_bound(b)}" for a, b in spans)
    return "[" + "".join(parts) + "]"


def _bound(code: int) -> str:
    letter = chr(code)
    return letter if letter.isascii() and letter.isalnum() else f"\\U{code:08X}"


def either(parts: Iterable[str]) -> str:
    """Return the expression of any of some."""
    found = list(dict.fromkeys(parts))
    return found[0] if len(found) == 1 else "(" + " | ".join(found) + ")"


def repeated(item: str, least: int, most: int | None) -> str:
    """Return an expression repeated; UsageError beyond what llama.cpp repeats."""
    if max(least, most or 0) > LONGEST_REPETITION:
        raise UsageError(
            f"llama.cpp repeats a rule at most {LONGEST_REPETITION} times,"
            f" and the schema asks for {max(least, most or 0)}",
            "use smaller limits of length, or none",
        )
    if most == 0:
        return '""'
    if (least, most) == (1, 1):
        return item
    signs = {(0, None): "*", (1, None): "+", (0, 1): "?"}
    end = "" if most is None else str(most)
    times = str(least) if least == most else f"{least},{end}"
    return item + signs.get((least, most), f"{{{times}}}")


def without(rules: Rules, word: str, name: str) -> str:
    """Return the name of a rule for any text that does not hold a word and goes on to its end.

    By the automaton of Knuth, Morris and Pratt, a rule for each letter of the word that was met.
    """
    names = [rules.reserve(f"{name}-{at}") for at in range(len(word))]
    letters = sorted(set(word))
    for at, rule in enumerate(names):
        ways = ['""']
        for letter in letters:
            met = word[:at] + letter
            if met != word:
                follows = next(n for n in range(len(met), -1, -1) if met.endswith(word[:n]))
                ways.append(f"{literal(letter)} {names[follows]}")
        inside = "".join(_bound(ord(letter)) for letter in letters)
        ways.append(f"[^{inside}] {names[0]}")
        rules.define(rule, " | ".join(ways))
    return names[0]

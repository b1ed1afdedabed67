"""Random answers of a grammar, by a reading of GBNF that knows nothing of how it was made."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import cast

_TOKEN = re.compile(
    r"\s*(?:(?P<rule>[a-zA-Z][a-zA-Z0-9-]*)|(?P<text>\"(?:[^\"\\]|\\.)*\")"
    r"|(?P<set>\[\^?(?:[^\]\\]|\\.)*\])|(?P<sign>[()|*+?])|\{(?P<times>\d+(?:,\d*)?)\})"
)
_ESCAPE = re.compile(r"\\(?:U([0-9A-Fa-f]{8})|x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_SIGNS = {"*": (0, None), "+": (1, None), "?": (0, 1)}
DEEP = 12

Node = tuple[str, object]


class Grammar:
    """The rules of a grammar as trees."""

    def __init__(self, text: str) -> None:
        lines = [line.split(" ::= ", 1) for line in text.splitlines() if line.strip()]
        self._rules = {name: _Body(body).alternatives() for name, body in lines}

    def answer(self, source: random.Random) -> str:
        """Return a random answer, kept short by taking the first way where it is nested deeply."""
        return self._make(self._rules["root"], source, 0)

    def _make(self, node: Node, source: random.Random, depth: int) -> str:
        kind, value = node
        if kind == "text":
            return str(value)
        if kind == "rule":
            return self._make(self._rules[str(value)], source, depth + 1)
        if kind == "set":
            return _letter(str(value), source)
        if kind == "then":
            return "".join(self._make(each, source, depth) for each in cast(list[Node], value))
        if kind == "either":
            ways = cast(list[Node], value)
            if depth > DEEP:
                ways = sorted(ways, key=_size)[:1]
            return self._make(source.choice(ways), source, depth)
        inside, least, most = cast(tuple[Node, int, int | None], value)
        top = least + 3 if most is None else min(most, least + 3)
        count = least if depth > DEEP else source.randint(least, top)
        return "".join(self._make(inside, source, depth) for _ in range(count))


def _size(node: Node) -> int:
    """Return how much a way refers to other rules."""
    return str(node).count("'rule'")


def _letter(text: str, source: random.Random) -> str:
    inside = text[1:-1]
    outside, inside = inside.startswith("^"), inside.removeprefix("^")
    letters = [
        chr(int(m[1] or m[2], 16)) if m[1] or m[2] else {"n": "\n", "t": "\t"}.get(m[3], m[3])
        if m[0].startswith("\\") else m[0]
        for m in re.finditer(_ESCAPE.pattern + r"|[^\\]", inside, re.DOTALL)
    ]  # fmt: skip
    spans, i = [], 0
    while i < len(letters):
        if i + 2 < len(letters) and letters[i + 1] == "-":
            spans.append((ord(letters[i]), ord(letters[i + 2])))
            i += 3
        else:
            spans.append((ord(letters[i]), ord(letters[i])))
            i += 1
    if outside:
        return next(c for c in "xyz0" if not any(a <= ord(c) <= b for a, b in spans))
    low, high = source.choice(spans)
    return chr(source.randint(low, min(high, low + 300)))


@dataclass
class _Body:
    text: str
    at: int = 0

    def _next(self) -> re.Match[str] | None:
        return _TOKEN.match(self.text, self.at)

    def alternatives(self) -> Node:
        ways = [self._sequence()]
        while (found := self._next()) and found["sign"] == "|":
            self.at = found.end()
            ways.append(self._sequence())
        return ("either", ways) if len(ways) > 1 else ways[0]

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while (found := self._next()) and found["sign"] not in ("|", ")"):
            self.at = found.end()
            if found["rule"]:
                parts.append(("rule", found["rule"]))
            elif found["text"] is not None:
                parts.append(("text", _plain(found["text"][1:-1])))
            elif found["set"]:
                parts.append(("set", found["set"]))
            elif found["sign"] == "(":
                parts.append(self.alternatives())
                closing = self._next()
                assert closing
                self.at = closing.end()
            else:
                parts[-1] = ("times", (parts[-1], *_times(found)))
        return ("then", parts)


def _times(found: re.Match[str]) -> tuple[int, int | None]:
    if found["sign"]:
        return _SIGNS[found["sign"]]
    low, comma, high = found["times"].partition(",")
    return int(low), (int(high) if high else None) if comma else int(low)


def _plain(text: str) -> str:
    def plain(m: re.Match[str]) -> str:
        if m[1] or m[2]:
            return chr(int(m[1] or m[2], 16))
        return {"n": "\n", "t": "\t", "r": "\r"}.get(m[3], m[3])

    return _ESCAPE.sub(plain, text)

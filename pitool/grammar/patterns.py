"""Regular expressions of JSON Schema (ECMA-262) as expressions of the inside of a JSON string.

Where Python's ``re`` and ECMA-262 differ, what both match is taken: digits, words and spaces are
those of ASCII. What no grammar can say (look-around, references) is refused.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from pitool.errors import UsageError
from pitool.grammar.rules import Rules, any_letter, either, literal, repeated

_LAST = 0x10FFFF
Spans = list[tuple[int, int]]

_DIGITS: Spans = [(0x30, 0x39)]
_WORDS: Spans = [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)]
_SPACES: Spans = [(9, 13), (32, 32)]
_CLASSES = {"d": _DIGITS, "w": _WORDS, "s": _SPACES}
_CONTROLS = {"n": 10, "t": 9, "r": 13, "f": 12, "v": 11, "0": 0}
_LINE_ENDS: Spans = [(10, 10), (13, 13), (0x2028, 0x2029)]
_QUANTIFIER = re.compile(r"(?:([*+?])|\{(\d{1,6})(,?)(\d{0,6})\})")
_SIGNS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_DEEPEST = 50


@dataclass(frozen=True, slots=True)
class Part:
    """An expression and how many characters it matches; ``most`` None has no limit."""

    text: str
    least: int
    most: int | None


def pattern(rules: Rules, source: str) -> Part:
    """Return the expression of the texts in which a regular expression matches somewhere.

    UsageError for one that no grammar can express.
    """
    return _Pattern(rules, source).whole()


def letters(rules: Rules) -> str:
    """Return the expression of one character in a JSON string, any but half a pair."""
    return rules.add("char", _class([(0, _LAST)]))


def plain_letter(barred: str) -> str:
    """Return the expression of one character that a JSON string has as it is, but for some."""
    return any_letter(_plain(_outside([(ord(letter), ord(letter)) for letter in barred])))


class _Pattern:
    """A position in a regular expression."""

    def __init__(self, rules: Rules, source: str) -> None:
        self._rules, self._source, self._at = rules, source, 0

    def whole(self) -> Part:
        """Read alternatives, each with its own anchors."""
        parts = [self._anchored()]
        while self._take("|"):
            parts.append(self._anchored())
        if self._at < len(self._source):
            raise self._refusal()
        return _any(parts)

    def _anchored(self) -> Part:
        before = Part("", 0, 0) if self._take("^") else self._anything()
        inside = self._sequence(0)
        after = Part("", 0, 0) if self._take("$") else self._anything()
        return _then([before, inside, after])

    def _anything(self) -> Part:
        return Part(f"{letters(self._rules)}*", 0, None)

    def _alternatives(self, depth: int) -> Part:
        parts = [self._sequence(depth)]
        while self._take("|"):
            parts.append(self._sequence(depth))
        return _any(parts)

    def _sequence(self, depth: int) -> Part:
        if depth > _DEEPEST:
            raise self._refusal()
        parts = []
        while self._next not in ("", "|", ")", "$"):
            parts.append(self._quantified(self._atom(depth)))
        return _then(parts)

    def _atom(self, depth: int) -> Part:
        if self._take("("):
            return self._group(depth)
        if self._take("["):
            return self._one(self._brackets())
        if self._take("."):
            return self._one(_outside(_LINE_ENDS))
        if self._take("\\"):
            return self._one(self._escape())
        if self._next in "^*+?":
            raise self._refusal()
        return self._one([(ord(self._step()),) * 2])

    def _group(self, depth: int) -> Part:
        if self._take("?"):
            named = re.compile(r":|P?<\w+>").match(self._source, self._at)
            if named is None:
                raise self._refusal()
            self._at = named.end()
        inside = self._alternatives(depth + 1)
        if not self._take(")"):
            raise self._refusal()
        return Part(f"({inside.text or literal('')})", inside.least, inside.most)

    def _quantified(self, part: Part) -> Part:
        found = _QUANTIFIER.match(self._source, self._at)
        if found is None:
            return part
        self._at = found.end()
        sign, least, comma, most = found.groups()
        if sign:
            low, high = _SIGNS[sign]
        else:
            low = int(least)
            high = int(most) if most else (None if comma else low)
        if (high is not None and high < low) or self._next == "+":
            raise self._refusal()
        self._take("?")  # lazy: the same texts
        if self._next and _QUANTIFIER.match(self._source, self._at):
            raise self._refusal()
        length = None if high is None or part.most is None else part.most * high
        item = self._rules.add("part", part.text) if " " in part.text else part.text
        return Part(repeated(item, low, high), part.least * low, 0 if part.most == 0 else length)

    def _one(self, spans: Spans) -> Part:
        text = _class(spans)
        if not text:
            raise self._refusal()
        if " " in text:
            text = self._rules.add("class", text)
        return Part(text, 1, 1)

    def _brackets(self) -> Spans:
        outside, spans, named = self._take("^"), [], False
        while not self._take("]"):
            low, class_ = self._bracket_item()
            named |= class_
            if self._next == "-" and self._source[self._at + 1 : self._at + 2] not in ("]", ""):
                self._step()
                high, class_ = self._bracket_item()
                if class_ or len(low) != 1 or low[0][0] > high[0][0]:
                    raise self._refusal()
                low = [(low[0][0], high[0][1])]
            spans += low
        if not outside:
            return spans
        # The spaces and digits beyond ASCII are in a class for one dialect only.
        return [span for span in _outside(spans) if span[0] < 0x80] if named else _outside(spans)

    def _bracket_item(self) -> tuple[Spans, bool]:
        if not self._take("\\"):
            if not self._next:
                raise self._refusal()
            return [(ord(self._step()),) * 2], False
        named = self._next.lower() in _CLASSES and self._next != ""
        return self._escape(), named

    def _escape(self) -> Spans:
        letter = self._step()
        if letter.lower() in _CLASSES:
            spans = _CLASSES[letter.lower()]
            return spans if letter.islower() else _ascii(_outside(spans))
        if letter in _CONTROLS:
            code = _CONTROLS[letter]
        elif found := re.compile(
            r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\}"
        ).match(self._source, self._at - 1):
            self._at, code = found.end(), int(found[1] or found[2] or found[3], 16)
        elif letter.isalnum() or not letter:  # a reference, a boundary, a property
            raise self._refusal()
        else:
            code = ord(letter)
        return [(code, code)]

    @property
    def _next(self) -> str:
        return self._source[self._at : self._at + 1]

    def _step(self) -> str:
        self._at += 1
        return self._source[self._at - 1 : self._at]

    def _take(self, letter: str) -> bool:
        if self._next != letter:
            return False
        self._at += 1
        return True

    def _refusal(self) -> UsageError:
        return UsageError(
            f"the pattern {self._source!r} cannot be expressed from character {self._at + 1} on",
            "use a regular expression without look-around, references and inner anchors",
        )


def _then(parts: list[Part]) -> Part:
    """Return parts one after the other."""
    limits = [part.most for part in parts]
    most = None if None in limits else sum(limit or 0 for limit in limits)
    text = " ".join(part.text for part in parts if part.text)
    return Part(text, sum(part.least for part in parts), most)


def _any(parts: list[Part]) -> Part:
    """Return any of some parts."""
    if len(parts) == 1:
        return parts[0]
    limits = [part.most for part in parts]
    most = None if None in limits else max(limit or 0 for limit in limits)
    text = either(part.text or literal("") for part in parts)
    return Part(text, min(part.least for part in parts), most)


def _outside(spans: Spans) -> Spans:
    """Return the code points that are in none of some ranges."""
    made, first = [], 0
    for low, high in sorted(spans):
        if low > first:
            made.append((first, low - 1))
        first = max(first, high + 1)
    return [*made, (first, _LAST)] if first <= _LAST else made


def _ascii(spans: Spans) -> Spans:
    return [(low, min(high, 0x7F)) for low, high in spans if low <= 0x7F]


_APART = [0x22, 0x5C, 8, 9, 10, 12, 13]
"""What a JSON string has an escape of two letters for."""


def _class(spans: Spans) -> str:
    """Return the expression of one character of some ranges as a JSON string has it."""
    plain = _plain(spans)
    escaped = [code for code in _APART if any(low <= code <= high for low, high in spans)]
    # Rarer control characters only where they are asked for one by one.
    escaped += [low for low, high in spans if low == high and low < 32 and low not in _APART]
    ways = [any_letter(plain)] if plain else []
    ways += [literal(json.dumps(chr(code))[1:-1]) for code in dict.fromkeys(escaped)]
    return either(ways) if ways else ""


def _plain(spans: Spans) -> Spans:
    """Return the code points of some ranges that a JSON string has as they are."""
    barred: Spans = [(0, 31), (0x22, 0x22), (0x5C, 0x5C), (0x7F, 0x7F), (0xD800, 0xDFFF)]
    return _outside([*_outside(spans), *barred])

"""Removes from a text what says who somebody is, and what opens a door: for texts that are sent on.

Knows patterns, and the names and texts that it is given. What it cannot know, such as the name of
another machine in a sentence, a person has to see.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

# A shorter line of a conversation says nothing, and stands in every other text too.
LEAST_LINE = 8
# Characters that a text and a conversation have in common only where one quotes the other.
PIECE = 24
# From so many characters on, a name is looked for inside of words and in either case.
DISTINCT_NAME = 5
_KEEP = frozenset(("127.0.0.1", "0.0.0.0", "::1", "::"))  # noqa: S104 - every machine's own

_PATTERNS: tuple[tuple[str, str, str], ...] = (
    (
        "key or token",
        r"(?i)(\b(?:proxy-)?authorization\b['\"]?\s*[:=]\s*)(?:['\"]?\w+\s+)?\S+",
        r"\1",
    ),
    ("key or token", r"(?i)(\bbearer\s+)[\w.~+/=-]+", r"\1"),
    (
        "key or token",
        r"(?i)(\b[\w-]*(?:api[_-]?key|token|secret|passw(?:or)?d)\b['\"]?\s*[:=]\s*)['\"]?[^\s'\",;]+",
        r"\1",
    ),
    ("key or token", r"\b(?:hf|sk|gh[pousr]|github_pat|xox[a-z])[_-][\w-]{8,}", ""),
    # What is as long as a token and has letters and digits, hexadecimal or not.
    ("key or token", r"(?<![\w-])(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{32,}(?![\w-])", ""),
    ("address", r"(?<=://)[^/\s@]+@", ""),
    ("address", r"[\w.+-]+@[\w.-]*\w", ""),
    ("address", r"(?i)(?<![\w:-])(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}(?![\w:-])", ""),
    ("address", r"(?i)\b[\w-]+(?:\.[\w-]+)*\.(?:local|lan|home\.arpa|internal|localdomain)\b", ""),
    ("home folder", r"(/(?:home|Users)/)[^/\s'\"]+", r"\1"),
)
_IP = re.compile(
    r"(?<![\w.:])(\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*)(?:%\w+)?"
)
# Quoted text with a space is rarely a name; that of a traceback's files has none.
_QUOTED = re.compile(r"'[^'\n]*\s[^'\n]*'|\"[^\"\n]*\s[^\"\n]*\"")


@dataclass(slots=True)
class Redaction:
    """What was removed so far, by kind; each place has the kind in brackets."""

    removed: dict[str, int] = field(default_factory=dict)

    def names(self, text: str, names: Mapping[str, Iterable[str]]) -> str:
        """Return a text without names; ``names``: by kind. The longest first: one holds others."""
        pairs = [(name, kind) for kind, each in names.items() for name in each if len(name) > 1]
        for name, kind in sorted(set(pairs), key=lambda pair: -len(pair[0])):
            pattern = re.escape(name)
            if len(name) < DISTINCT_NAME:
                text = self._replace(text, rf"(?<![A-Za-z0-9]){pattern}(?![A-Za-z0-9])", kind)
            else:
                text = self._replace(text, f"(?i){pattern}", kind)
        return text

    def secrets(self, text: str, values: Iterable[str] = ()) -> str:
        """Return a text without keys, tokens and addresses; ``values``: keys that are known."""
        for value in sorted(values, key=len, reverse=True):
            text = self._replace(text, re.escape(value), "key or token")
        for kind, pattern, kept in _PATTERNS:
            text = self._replace(text, pattern, kind, kept)
        return _IP.sub(self._address, text)

    def spoken(self, text: str, conversations: Iterable[str]) -> str:
        """Return a text without what stands in conversations, and without what is quoted.

        A line that holds a piece of one goes as a whole, a short line of one by itself.
        """
        lines = [" ".join(line.split()) for line in text.splitlines()]
        pieces: dict[str, set[int]] = {}
        for number, line in enumerate(lines):
            for start in range(len(line) - PIECE + 1):
                pieces.setdefault(line[start : start + PIECE], set()).add(number)
        held: set[int] = set()
        short: set[str] = set()
        for each in conversations:
            said = " ".join(each.split())
            for start in range(0, len(said), PIECE):
                held |= pieces.get(said[start : start + PIECE], set())
            short |= {" ".join(line.split()) for line in each.splitlines() if len(line) < 2 * PIECE}
        kept = text.splitlines()
        for number in held:
            self._count("conversation")
            kept[number] = "[conversation]"
        text = "\n".join(kept)
        for line in sorted(short, key=len, reverse=True):
            if len(line) >= LEAST_LINE and line in text:
                text = self._replace(text, re.escape(line), "conversation")
        return self._replace(text, _QUOTED.pattern, "quotation")

    def _address(self, match: re.Match[str]) -> str:
        found = match[1]
        for plain in (found, found.rstrip(".:")):
            try:
                ipaddress.ip_address(plain)
            except ValueError:
                continue
            if plain in _KEEP:
                break
            self._count("address")
            return f"[address]{found[len(plain) :]}"
        return match[0]

    def _replace(self, text: str, pattern: str, kind: str, kept: str = "") -> str:
        def mark(match: re.Match[str]) -> str:
            self._count(kind)
            return match.expand(kept) + f"[{kind}]"

        return re.sub(pattern, mark, text)

    def _count(self, kind: str) -> None:
        self.removed[kind] = self.removed.get(kind, 0) + 1

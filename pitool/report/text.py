"""Text on a terminal: how wide it is, how it is wrapped or shortened, and where colours are shown.

Widths are counted in columns, of which a Chinese or Japanese character takes two. Names come from
files that others wrote: what a terminal would obey instead of show is replaced.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterable
from typing import TextIO

from pitool.errors import harmless

WIDTH = 80
ELLIPSIS = "…"
# Columns of words beside others, or else they stand below those, so far to the right.
LEAST_BESIDE, INDENT = 24, 2
_STYLES = {"bold": 1, "red": 31, "green": 32, "yellow": 33, "cyan": 36}


def terminal_width(stream: TextIO | None = None) -> int:
    """Return the columns of the terminal behind ``stream`` (stdout), 80 where there is none."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told):
        return int(told)
    try:
        return os.get_terminal_size((stream or sys.stdout).fileno()).columns or WIDTH
    except (OSError, ValueError):
        return WIDTH


def shows_colour(stream: TextIO | None = None) -> bool:
    """Tell whether ``stream`` (stdout) is a terminal with colours, and NO_COLOR is not set."""
    stream = stream or sys.stdout
    return stream.isatty() and not os.environ.get("NO_COLOR") and is_smart()


def is_smart() -> bool:
    """Tell whether the terminal moves its cursor and knows colours."""
    return os.environ.get("TERM", "dumb") != "dumb"


def paint(text: str, style: str) -> str:
    """Return ``text`` in a style by name: bold, red, green, yellow or cyan."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


def columns(text: str) -> int:
    """Return how many columns a text takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def printable(text: str) -> str:
    """Return ``text`` on one line, with a sign instead of each character that would be obeyed."""
    return harmless(text.replace("\n", " ").replace("\t", " "))


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Return ``text`` with spaces to ``width`` columns; ``right``: aligned to the right."""
    spaces = " " * (width - columns(text))
    return spaces + text if right else text + spaces


def shorten(text: str, width: int) -> str:
    """Return ``text`` in ``width`` columns, its middle left out where it is longer."""
    if columns(text) <= width:
        return text
    tail = _tail(text, (width - 1) // 2)
    return _head(text, width - 1 - columns(tail)) + ELLIPSIS + tail


def _head(text: str, width: int) -> str:
    end = used = 0
    while end < len(text) and (used := used + _columns(text[end])) <= width:
        end += 1
    return text[:end]


def _tail(text: str, width: int) -> str:
    return _head(text[::-1], width)[::-1]


def pairs(rows: Iterable[tuple[str, str]], width: int) -> list[tuple[str, str]]:
    """Return the lines of pairs of words in ``width`` columns: what is left and what is right.

    The right ones stand in a column of their own, or where that were too narrow, below the left.
    """
    given = list(rows)
    beside = max((columns(left) for left, _ in given), default=0) + 2
    below = width - beside < LEAST_BESIDE
    lines: list[tuple[str, str]] = []
    for left, right in given:
        room = width - (INDENT if below else beside)
        parts = wrap(right, max(room, 1))
        if below:
            lines += [(left, ""), *((" " * INDENT, part) for part in parts)]
        else:
            first, *rest = parts or [""]
            lines.append((pad(left, beside), first))
            lines += [(" " * beside, part) for part in rest]
    return lines


def wrap(text: str, width: int, indent: str = "") -> list[str]:
    """Return lines of at most ``width`` columns, those after the first behind ``indent``.

    Lines are broken at spaces; words that are longer than a line are broken anywhere.
    """
    lines, line = [], ""
    width = max(width, columns(indent) + 2)
    for word in text.split():
        if line.strip() and columns(line) + 1 + columns(word) <= width:
            line = f"{line} {word}"
            continue
        if line.strip():
            lines.append(line)
        line = (indent if lines else "") + word
        while columns(line) > width:
            part = _head(line, width)
            lines.append(part)
            line = indent + line[len(part) :]
    return [*lines, line] if line.strip() else lines

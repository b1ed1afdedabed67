"""A report as sections, each a table with a title and notes: for a terminal or as Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH = 80
# A first column is not wrapped to fewer letters.
NARROWEST = 10


@dataclass(frozen=True, slots=True)
class Section:
    """One table; the first column is aligned to the left, ``left`` names how many are."""

    title: str
    headings: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()
    left: int = 1


def to_text(sections: Iterable[Section]) -> str:
    """Return the sections as plain text of at most 80 columns, wherever cells allow it."""
    return "\n\n".join("\n".join(_text(section)) for section in sections)


def _text(section: Section) -> list[str]:
    lines = textwrap.wrap(section.title, WIDTH)
    if section.rows:
        rows = _narrowed(section.headings, section.rows)
        widths = _widths([section.headings, *rows])
        lines.append(_line(section.headings, widths, section.left))
        lines.append("-" * min(sum(widths) + 2 * len(widths) - 2, WIDTH))
        lines += [_line(row, widths, section.left) for row in rows]
    for note in section.notes:
        lines += textwrap.wrap(note, WIDTH, subsequent_indent="  ")
    return lines


def _narrowed(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """Return the rows, the first column wrapped where they would be too wide for a terminal."""
    widths = _widths([headings, *rows])
    room = WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1)
    if widths[0] <= room or room < max(NARROWEST, len(headings[0])):
        return [*rows]
    wrapped: list[Sequence[str]] = []
    for first, *others in rows:
        lines = textwrap.wrap(first, room)
        wrapped.append([lines[0], *others])
        wrapped += ([line, *([""] * len(others))] for line in lines[1:])
    return wrapped


def _widths(table: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*table, strict=True)]


def _line(row: Sequence[str], widths: Sequence[int], left: int) -> str:
    cells = (
        cell.ljust(width) if i < left else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join(cells).rstrip()


def to_markdown(sections: Iterable[Section]) -> str:
    """Return the sections as GitHub's Markdown."""
    return "\n\n".join("\n".join(_markdown(section)) for section in sections)


def _markdown(section: Section) -> list[str]:
    lines = [f"**{section.title}**"]
    if section.rows:
        rules = ("---" if i < section.left else "--:" for i in range(len(section.headings)))
        lines += ["", *map(_cells, [section.headings, list(rules), *section.rows])]
    return lines + [part for note in section.notes for part in ("", note)]


def _cells(row: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"

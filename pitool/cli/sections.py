"""A report as sections, each a table with a title and notes: for a terminal or as Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH = 80


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
        table = [section.headings, *section.rows]
        widths = [max(len(row[i]) for row in table) for i in range(len(section.headings))]
        lines += [_line(row, widths, section.left) for row in table]
        lines.insert(-len(section.rows), "-" * min(sum(widths) + 2 * len(widths) - 2, WIDTH))
    for note in section.notes:
        lines += textwrap.wrap(note, WIDTH, subsequent_indent="  ")
    return lines


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

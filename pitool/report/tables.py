"""The one renderer of tables: for a terminal of any width, as Markdown, or as CSV.

In a terminal a table is as wide as its cells, and fits where they are too wide for it: words are
wrapped, then columns leave by their priority, which is said below the table, then names are
shortened in the middle; what must stay and still finds no room stands in a second table below the
first, beside the first column. Where that one does not tell the rows apart, each row is a paragraph
of headings and cells. A verdict or a figure is never cut.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TextIO

from pitool.report import text
from pitool.report.streams import write_own

GAP = "  "
# Cells that may be narrowed are not narrowed below so many columns.
NARROWEST = 10


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, and how the cells below it behave where there is little room.

    ``fold``: ``never`` for verdicts and figures, ``middle`` for names, ``wrap`` for words.
    ``priority``: 0 always stays; of the others the highest leaves first, of equals the last.
    ``colours``: the style of a cell, by its first word. ``note``: what its figures are, which is
    said below the table where the column is shown.
    """

    heading: str
    align: Literal["left", "right"] = "right"
    fold: Literal["never", "middle", "wrap"] = "never"
    priority: int = 0
    colours: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A table with a title above and notes below it, each of which may be missing.

    A heading that is a string is a column that always stays: the first ``left`` of them are aligned
    to the left, the first is wrapped where it is too wide. ``bold``: the rows that stand out.
    """

    title: str
    headings: Sequence[str | Column] = ()
    rows: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()
    left: int = 1
    bold: Collection[int] = ()

    @property
    def columns(self) -> list[Column]:
        """The columns, those that were given as strings among them."""
        return [
            heading
            if isinstance(heading, Column)
            else Column(heading, "left" if i < self.left else "right", "never" if i else "wrap")
            for i, heading in enumerate(self.headings)
        ]


def to_text(sections: Iterable[Section], width: int = text.WIDTH, *, colour: bool = False) -> str:
    """Return the sections as plain text of at most ``width`` columns."""
    return "\n\n".join("\n".join(_section(section, width, colour)) for section in sections)


def to_terminal(sections: Iterable[Section], stream: TextIO | None = None) -> str:
    """Return the sections as the terminal behind ``stream`` (stdout) shows them best."""
    width, colour = text.terminal_width(stream), text.shows_colour(stream)
    return to_text(sections, width, colour=colour)


def show(sections: Iterable[Section], stream: TextIO | None = None) -> None:
    """Write the sections to ``stream`` (stdout), with colours where it has them."""
    write_own(f"{to_terminal(sections, stream)}\n", stream)


def fit_line(cells: Sequence[str], priorities: Sequence[int], width: int) -> str:
    """Return a line of a table that goes on: cells of the highest priority leave where it is wide.

    ``priorities``: those of ``Column``; cells are padded already.
    """
    shown = list(range(len(cells)))
    while sum(text.columns(cells[i]) + len(GAP) for i in shown) - len(GAP) > width:
        leaving = max(shown, key=lambda i: (priorities[i], i))
        if not priorities[leaving]:
            break
        shown.remove(leaving)
    return GAP.join(cells[i] for i in shown).rstrip()


def to_markdown(sections: Iterable[Section]) -> str:
    """Return the sections as GitHub's Markdown, with all columns."""
    return "\n\n".join("\n".join(_markdown(section)) for section in sections)


def to_csv(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return comma-separated values under a line of headings; empty for None."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows(rows)
    return lines.getvalue()


def _section(section: Section, width: int, colour: bool) -> list[str]:
    lines = text.wrap(text.printable(section.title), width)
    notes: list[str] = []
    if section.rows:
        table = _Table(section, colour)
        lines += table.lines(width)
        notes += table.notes
    notes += section.notes
    if section.rows and table.dropped:
        notes.append(f"not shown in {width} columns: {', '.join(table.dropped)}")
    for note in notes:
        lines += text.wrap(text.printable(note), width, indent="  ")
    return lines


class _Table:
    """The cells of a section; ``dropped``: headings of the columns that found no room.

    ``notes``: those of the columns that did.
    """

    def __init__(self, section: Section, colour: bool) -> None:
        self._columns = section.columns
        cells = [[text.printable(cell) for cell in row] for row in section.rows]
        self._cells = [list(column) for column in zip(*cells, strict=True)]
        self._bold = section.bold if colour else ()
        self._colour = colour
        self.dropped: list[str] = []
        self.notes: list[str] = []

    def lines(self, width: int) -> list[str]:
        """Return the table in ``width`` columns."""
        shown = self._fitting(width)
        self.dropped = [c.heading for i, c in enumerate(self._columns) if i not in shown]
        blocks = self._blocks(shown, width)
        if len(blocks) > 1 and len(set(self._cells[0])) < len(self._cells[0]):
            shown, self.dropped = [*range(len(self._columns))], []
            paragraphs = zip(*self._cells, strict=True)
            lines = [line for cells in paragraphs for line in self._paragraph(cells, width)]
        else:
            lines = self._tables(blocks, width)
        self.notes = [self._columns[i].note for i in shown if self._columns[i].note]
        return lines

    def _paragraph(self, cells: Sequence[str], width: int) -> list[str]:
        """Return a row in words: the first cell, then each heading with its cell."""
        heads = (column.heading for column in self._columns)
        parts = [f"{head} {cell}" for head, cell in zip(heads, cells, strict=True) if cell]
        lines = [cells[0] + ":"]
        for i, part in enumerate(parts[1:], 2):
            piece = part + ("," if i < len(parts) else "")
            if text.columns(lines[-1]) + 1 + text.columns(piece) <= width:
                lines[-1] += f" {piece}"
            else:
                lines += [f"  {line}" for line in text.wrap(piece, width - 2)]
        return [*text.wrap(lines[0], width), *lines[1:]]

    def _tables(self, blocks: Sequence[Sequence[int]], width: int) -> list[str]:
        lines: list[str] = []
        for block in blocks:
            lines += [""] * bool(lines)
            lines += self._block(block, width)
        return lines

    def _fitting(self, width: int) -> list[int]:
        """Return the columns that are shown, if need be only those that must be."""
        shown = list(range(len(self._columns)))
        while self._sum(map(self._wanted, shown)) > width:
            leaving = max(shown, key=lambda i: (self._columns[i].priority, i))
            if not self._columns[leaving].priority:
                break
            shown.remove(leaving)
        return shown

    def _blocks(self, shown: Sequence[int], width: int) -> list[list[int]]:
        """Return the columns of each table, one where that finds room; the first begins each."""
        first, *others = shown
        blocks = [[first]]
        for i in others:
            least = self._sum(map(self._narrowest, [*blocks[-1], i]))
            if len(blocks[-1]) > 1 and least > width:
                blocks.append([first])
            blocks[-1].append(i)
        return blocks

    @staticmethod
    def _sum(widths: Iterable[int]) -> int:
        return sum(width + len(GAP) for width in widths) - len(GAP)

    def _widest(self, i: int) -> int:
        return max(map(text.columns, [self._columns[i].heading, *self._cells[i]]))

    def _wanted(self, i: int) -> int:
        """Return the width for the sake of which other columns leave: a name is whole."""
        return self._narrowest(i) if self._columns[i].fold == "wrap" else self._widest(i)

    def _narrowest(self, i: int) -> int:
        if self._columns[i].fold == "never":
            return self._widest(i)
        return min(self._widest(i), max(NARROWEST, text.columns(self._columns[i].heading)))

    def _widths(self, shown: Sequence[int], width: int) -> list[int]:
        """Return the width of each column: the widest that can be narrowed give way first."""
        widths = [self._widest(i) for i in shown]
        least = [self._narrowest(i) for i in shown]
        over = self._sum(widths) - width
        while over > 0:
            k = max(range(len(widths)), key=lambda k: (widths[k] > least[k], widths[k]))
            if widths[k] == least[k]:
                break
            widths[k] -= 1
            over -= 1
        return widths

    def _block(self, shown: Sequence[int], width: int) -> list[str]:
        widths = self._widths(shown, width)
        heads = [[text.printable(self._columns[i].heading)] for i in shown]
        folded = [self._folded(i, w) for i, w in zip(shown, widths, strict=True)]
        rule = "-" * self._sum(widths)
        lines = [*self._row(shown, widths, heads), rule]
        for number, cells in enumerate(zip(*folded, strict=True)):
            row = self._row(shown, widths, cells, styled=self._colour)
            bold = number in self._bold
            lines += [text.paint(line, "bold") for line in row] if bold else row
        return lines

    def _folded(self, i: int, width: int) -> list[list[str]]:
        """Return the lines of each cell of a column; names that would look alike are wrapped."""
        cells, fold = self._cells[i], self._columns[i].fold
        if fold == "middle":
            short = [text.shorten(cell, width) for cell in cells]
            if len(set(short)) == len(set(cells)):
                return [[cell] for cell in short]
        if fold == "never":
            return [[cell] for cell in cells]
        return [text.wrap(cell, width) or [""] for cell in cells]

    def _row(
        self,
        shown: Sequence[int],
        widths: Sequence[int],
        cells: Sequence[Sequence[str]],
        *,
        styled: bool = False,
    ) -> list[str]:
        lines = []
        for n in range(max(map(len, cells))):
            parts = []
            for i, width, cell in zip(shown, widths, cells, strict=True):
                column, line = self._columns[i], cell[n] if n < len(cell) else ""
                part = text.pad(line, width, right=column.align == "right")
                style = column.colours.get(line.partition(" ")[0]) if styled else None
                parts.append(text.paint(part, style) if style else part)
            lines.append(GAP.join(parts).rstrip())
        return lines


def _markdown(section: Section) -> list[str]:
    lines = [f"**{section.title}**", ""] if section.title else []
    notes: list[str] = []
    if section.rows:
        columns = section.columns
        rules = ["---" if column.align == "left" else "--:" for column in columns]
        lines += map(_cells, [[column.heading for column in columns], rules, *section.rows])
        notes += [column.note for column in columns if column.note]
    elif lines:
        lines.pop()
    return lines + [part for note in [*notes, *section.notes] for part in ("", note)]


def _cells(row: Sequence[str]) -> str:
    return f"| {' | '.join(text.printable(cell).replace('|', '/') for cell in row)} |"

"""A table that fits the width of the terminal, by the same rules as the tables of the commands.

Columns leave by their priority, then names are shortened in the middle; a figure or a verdict is
never cut.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual import events
from textual.widgets import DataTable

from pitool.report.tables import Column
from pitool.report.text import columns as cells_of
from pitool.report.text import shorten

NARROWEST = 8

Cell = str | Text


class FitTable(DataTable[Text]):
    """Rows of texts under ``columns``; the cursor stays on its row when they are shown anew."""

    DEFAULT_CSS = """
    FitTable { background: $background; scrollbar-size-vertical: 1; overflow-x: hidden; }
    """

    def __init__(self, columns: Sequence[Column], *, id: str | None = None) -> None:  # noqa: A002 - Textual's
        super().__init__(cursor_type="row", id=id)
        self._given = list(columns)
        self._texts: list[list[Text]] = []
        self._laid_out: tuple[int, tuple[int, ...]] = (0, ())

    def show(self, rows: Sequence[Sequence[Cell]], columns: Sequence[Column] | None = None) -> None:
        """Show other rows, under other columns where they are given."""
        if columns is not None and list(columns) != self._given:
            self._given = list(columns)
        self._texts = [[_text(cell) for cell in row] for row in rows]
        self._lay_out()

    def on_resize(self, _: events.Resize) -> None:
        """Fit the new width."""
        self._lay_out()

    def _lay_out(self) -> None:
        shown, widths = self._fit(self.size.width or self.app.size.width)
        place = self.cursor_row
        self.clear(columns=True)
        for i, width in zip(shown, widths, strict=True):
            column = self._given[i]
            self.add_column(Text(column.heading, justify=column.align), width=width)
        for row in self._texts:
            self.add_row(
                *(
                    _fitted(row[i], width, self._given[i])
                    for i, width in zip(shown, widths, strict=True)
                )
            )
        self.move_cursor(row=min(place, max(len(self._texts) - 1, 0)))

    def _fit(self, room: int) -> tuple[list[int], list[int]]:
        """Return the columns that are shown, and how wide each is."""
        room -= self.scrollbar_size_vertical
        beside = 2 * self.cell_padding
        wanted = [self._widest(i) for i in range(len(self._given))]
        least = [self._least(i, width) for i, width in enumerate(wanted)]
        shown = list(range(len(self._given)))
        while sum(least[i] + beside for i in shown) > room:
            leaving = max(shown, key=lambda i: (self._given[i].priority, i))
            if not self._given[leaving].priority:
                break
            shown.remove(leaving)
        widths = [least[i] for i in shown]
        spare = room - sum(width + beside for width in widths)
        for k in sorted(range(len(shown)), key=lambda k: wanted[shown[k]] - widths[k]):
            more = min(max(spare, 0), wanted[shown[k]] - widths[k])
            widths[k] += more
            spare -= more
        return shown, widths

    def _widest(self, i: int) -> int:
        cells = [row[i].cell_len for row in self._texts]
        return max([cells_of(self._given[i].heading), *cells])

    def _least(self, i: int, widest: int) -> int:
        if self._given[i].fold == "never":
            return widest
        return min(widest, max(NARROWEST, cells_of(self._given[i].heading)))


def _text(cell: Cell) -> Text:
    return cell if isinstance(cell, Text) else Text(cell)


def _fitted(text: Text, width: int, column: Column) -> Text:
    """Return a cell in its width: names without their middle, words without their end."""
    made = text.copy()
    if column.fold == "middle" and made.cell_len > width:
        made = Text(shorten(made.plain, width), made.style)
    elif column.fold == "wrap":
        made.truncate(width, overflow="ellipsis")
    made.justify = column.align
    made.no_wrap = True
    return made

"""A picture or table of benchmark results to share, with all that makes them comparable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pitool.bench import card_drawing
from pitool.bench.card_content import Card, card
from pitool.bench.rows import BenchRow
from pitool.catalog.outputs import check_output, write_output
from pitool.errors import UsageError
from pitool.report.tables import Column, Section, to_markdown

HEADINGS = ("artifact", "test", "threads", "tokens/s")


def check(path: Path) -> None:
    """Raise UsageError when a card cannot be written there, before anything is measured."""
    if path.suffix.lower() not in _RENDERERS:
        raise UsageError(
            f"{path} is not a card file", "choose a name that ends in .svg, .png or .md"
        )
    check_output(path, "--card")


def write(path: Path, rows: Sequence[BenchRow]) -> None:
    """Write the card in the format of the file's suffix."""
    check(path)
    write_output(path, _RENDERERS[path.suffix.lower()](card(rows)))


def markdown(made: Card) -> bytes:
    """Return the card as a Markdown table."""
    headings = [Column(heading, "left" if i < 2 else "right") for i, heading in enumerate(HEADINGS)]
    section = Section(made.title, headings, made.rows, [" · ".join(made.notes)])
    return f"{to_markdown([section])}\n".encode()


_RENDERERS: dict[str, Callable[[Card], bytes]] = {
    ".svg": card_drawing.svg,
    ".png": card_drawing.png,
    ".md": markdown,
}

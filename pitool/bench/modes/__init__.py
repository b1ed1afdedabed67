"""What bench measures besides tests: one mode a file, and this one table of them.

A row here gives the command its flags, the history its kind and the list of it its words.
"""

from __future__ import annotations

from pitool.bench.history import Document
from pitool.bench.modes import cold, energy, sustained
from pitool.bench.modes.base import Mode

MODES: dict[str, Mode] = {
    "sustained": sustained.MODE,
    "cold": cold.MODE,
    "energy": energy.MODE,
}


def words(document: Document) -> str:
    """Return the main figures of a document in a line."""
    return MODES[document["kind"]].words(document)


def chart(document: Document) -> list[str]:
    """Return the lines of a chart of tokens/s over time; none where a mode has no such points."""
    return MODES[document["kind"]].chart(document)

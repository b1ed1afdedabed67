"""What bench measures besides tests: one mode per file, and the table of them.

A row names the flags of the command and the kind of result in the history. A module is
imported when its mode is asked for: the command's help needs the flags only.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pitool.bench.history import Document
    from pitool.bench.modes.base import Mode


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag of ``pitool bench`` that asks for a mode; without ``metavar`` it takes no value."""

    name: str
    help: str
    metavar: str | None = None

    @property
    def key(self) -> str:
        """Its name among a command's options."""
        return self.name.removeprefix("--").replace("-", "_")


# Name -> the flags that ask for it; its module in this package has the same name.
MODES: dict[str, tuple[Flag, ...]] = {
    "sustained": (
        Flag("--sustained", "Decode for TIME, such as 10m; compare first and last minute.", "TIME"),
    ),
    "cold": (Flag("--cold", "Measure load time and TTFT, page cache cold and warm."),),
    "speculate": (Flag("--speculate", "Measure what guessed tokens gain by kind of text."),),
    "energy": (
        Flag("--energy", "Measure watts and joules per token (Pi 5's power chip)."),
        Flag("--power-meter", "Like --energy, with a command that prints watts.", "CMD"),
    ),
}


def asked_for(options: Mapping[str, Any]) -> list[str]:
    """Return the modes whose flags are given among a command's options."""
    return [
        name
        for name, flags in MODES.items()
        if any(options[flag.key] not in (None, False) for flag in flags)
    ]


def find_mode(name: str) -> Mode:
    """Return a mode of the table."""
    mode: Mode = importlib.import_module(f"{__name__}.{name}").MODE
    return mode


# What the figures of a damaged document end in.
_DAMAGE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def words(document: Document) -> str:
    """Return the main figures of a document in a line; that they are damaged where they are."""
    if document["kind"] not in MODES:
        return "measured by another version of pitool"
    try:
        return find_mode(document["kind"]).words(document)
    except _DAMAGE:
        return "its figures are damaged"


def chart(document: Document) -> list[str]:
    """Return the lines of a chart of tokens/s over time; none where a mode has no such points."""
    try:
        return find_mode(document["kind"]).chart(document) if document["kind"] in MODES else []
    except _DAMAGE:
        return []

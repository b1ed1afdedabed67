"""Options of several names: commas between them, or the option again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def names_option(flag: str, *, text: str, metavar: str = "NAMES") -> Callable[..., Any]:
    """Return an option of names; the command gets them with commas between, None for none."""
    return click.option(flag, multiple=True, metavar=metavar, callback=_joined, help=text)


def _joined(
    _context: click.Context, _option: click.Parameter, given: tuple[str, ...]
) -> str | None:
    return ",".join(given) if given else None

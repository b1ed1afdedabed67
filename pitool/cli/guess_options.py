"""The flags of speculation: whether tokens are guessed, and by which model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pitool.catalog.bundles import Runnable

F = TypeVar("F", bound=Callable[..., Any])


def guess_options(function: F) -> F:
    """Give a command the flags of speculation."""
    draft = click.option(
        "--draft",
        metavar="NAME",
        help="Small model with the same vocabulary that guesses tokens; plan --details lists some.",
    )
    speculate = click.option(
        "--speculate/--no-speculate",
        default=True,
        help="Check guessed tokens several at once where that is faster (default: yes).",
    )
    return draft(speculate(function))


def find_draft(name: str | None, *, speculate: bool) -> Runnable | None:
    """Return the draft model that a user names; UsageError where nothing is to be guessed."""
    from pitool.catalog.files import expand
    from pitool.catalog.model_argument import find_runnable
    from pitool.errors import UsageError

    if name is None:
        return None
    if not speculate:
        raise UsageError("--draft and --no-speculate cannot be combined", "drop one of them")
    return find_runnable(expand(name))

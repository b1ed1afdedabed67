"""What ``/set`` accepts: parameters with their defaults, and presets."""

from __future__ import annotations

from collections.abc import Iterator

from pitool.chat.parameters import PRESETS, shown
from pitool.engine.base import Sampling
from scripts.reference.markdown import table


def parameters() -> Iterator[str]:
    """Yield each parameter with its default and what it takes."""
    rows = ((f"`{name}`", f"`{value}`", wanted) for name, value, wanted in shown(Sampling()))
    yield from table(("name", "default", "values"), rows)


def presets() -> Iterator[str]:
    """Yield each preset with what it sets."""
    rows = (
        (f"`{name}`", ", ".join(f"`{key}` {value:g}" for key, value in values.items()))
        for name, values in PRESETS.items()
    )
    yield from table(("preset", "sets"), rows)

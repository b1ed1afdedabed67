"""Options that are numbers: N for whole ones and X for others, as their ranges are shown.

What is none, or has no end, is refused: Python reads ``nan`` and ``inf`` as numbers too.
"""

from __future__ import annotations

import math
from typing import Any

import click


class WholeRange(click.IntRange):
    """A range of whole numbers."""

    name = "whole number"

    def get_metavar(self, *_: Any, **__: Any) -> str:
        """Return how the help names one."""
        return "N"


class Finite(click.types.FloatParamType):
    """Any number."""

    name = "number"

    def get_metavar(self, *_: Any, **__: Any) -> str:
        """Return how the help names one."""
        return "X"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


class FiniteRange(Finite, click.FloatRange):
    """A range of numbers; a comparison alone would not refuse what is none."""

"""Numbers of options that are numbers: Python reads ``nan`` and ``inf`` as such too."""

from __future__ import annotations

import math
from typing import Any

import click


class FiniteRange(click.FloatRange):
    """A range of numbers; what is none, or has no end, is refused: no comparison does."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number

    def _describe_range(self) -> str:
        """Say nothing of no bounds, of which click's help says ``x<=None``."""
        return "" if self.min is None and self.max is None else super()._describe_range()

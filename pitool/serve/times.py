"""Lengths of time as Ollama writes them: ``5m``, ``90``, ``-1`` for ever, ``0`` for none."""

from __future__ import annotations

import re

from pitool.errors import UsageError

_UNITS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|)")


def parse_time(value: object) -> float:
    """Return the seconds of a time; below zero is for ever. UsageError for what is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _wrong(value)
    if isinstance(value, int | float):
        return float("inf") if value < 0 else float(value)
    text = value.strip()
    digits = text.removeprefix("-")
    parts = list(_PART.finditer(digits))
    if not digits or "".join(match[0] for match in parts) != digits:
        raise _wrong(value)
    if text != digits:
        return float("inf")
    return sum(float(match[1]) * _UNITS[match[2]] for match in parts)


def _wrong(value: object) -> UsageError:
    return UsageError(f"{value!r} is not a time", "use a time such as 5m, 0 or -1 (for ever)")

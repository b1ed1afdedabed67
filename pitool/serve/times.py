"""Lengths of time as Ollama writes them: ``5m``, ``90``, ``-1`` for ever, ``0`` for none."""

from __future__ import annotations

import re

from pitool.errors import UsageError

FOREVER = float("inf")
# Seconds, a hundred years, from which on a time is for ever: no clock counts further.
LONGEST = 100 * 365 * 86400
_UNITS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|)")


def parse_time(value: object) -> float:
    """Return the seconds of a time; below zero is for ever. UsageError for what is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _wrong(value)
    if isinstance(value, int | float):
        if value != value:
            raise _wrong(value)
        return float(value) if 0 <= value < LONGEST else FOREVER
    text = value.strip()
    digits = text.removeprefix("-")
    parts = list(_PART.finditer(digits))
    if not digits or "".join(match[0] for match in parts) != digits:
        raise _wrong(value)
    seconds = sum(float(match[1]) * _UNITS[match[2]] for match in parts)
    return seconds if text == digits and seconds < LONGEST else FOREVER


def _wrong(value: object) -> UsageError:
    return UsageError(f"{value!r} is not a time", "use a time such as 5m, 0 or -1 (for ever)")

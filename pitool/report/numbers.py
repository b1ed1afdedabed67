"""Numbers as text, one way for each kind: bytes, rates, seconds, counts.

Two sizes that are set against each other go through ``compare_bytes``, which never prints two
different ones alike.
"""

from __future__ import annotations

import re
from itertools import count as counting

from pitool.errors import UsageError

NONE = "–"

_UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def format_bytes(count: float, digits: int = 3) -> str:
    """Return a size in decimal units, as files are sold: ``2.02 GB``, ``491 MB``.

    ``digits``: significant ones, of which those before the point are never dropped.
    """
    for unit, size in _UNITS:
        value = count / size
        if abs(value) >= 0.9995:
            decimals = digits - 1 if abs(value) < 9.995 else digits - 3
            return f"{value:.{max(decimals, 0)}f} {unit}"
    return f"{count:.0f} B"


def compare_bytes(*counts: int) -> tuple[str, ...]:
    """Return sizes that stand side by side in a sentence, with digits enough to tell them apart."""
    for digits in counting(3):
        texts = tuple(format_bytes(count, digits) for count in counts)
        if len(set(texts)) == len(set(counts)):
            return texts
    raise AssertionError  # different whole numbers differ in some digit


def parse_bytes(text: str) -> int:
    """Return the bytes of a size such as ``1.9gb``; UsageError for what is none."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?(gb|mb|kb)", text.strip().lower())
    if not match or not float(match[1]):
        raise UsageError(
            f"{text!r} is not a size", "give one such as 1.9gb or 700mb (1 GB = 1e9 bytes)"
        )
    return round(float(match[1]) * {"gb": 1e9, "mb": 1e6, "kb": 1e3}[match[2]])


def format_count(number: int, word: str) -> str:
    """Return ``1 line`` or ``3 lines``."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def format_rate(tokens_per_second: float) -> str:
    """Return ``45.6 t/s``, or a dash for none yet."""
    return f"{tokens_per_second:.1f} t/s" if tokens_per_second > 0 else f"{NONE} t/s"


def format_seconds(value: float) -> str:
    """Return ``0.31 s``, ``12.3 s`` or ``2:05``."""
    if value >= 100:
        return f"{int(value) // 60}:{int(value) % 60:02d}"
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"

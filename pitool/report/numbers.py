"""Numbers as text, one way for each kind: bytes, rates, seconds, shares, dates.

Two figures that are set against each other go through ``compare_bytes`` or ``compare_fixed``,
which never print two different ones alike.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from datetime import date
from math import floor, log10

from pitool.errors import UsageError

NONE = "–"

_UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
# In English, whatever the locale: so is the rest of every sentence.
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# Digits that a float has for sure.
_MOST_DIGITS = 15


def format_bytes(count: float, digits: int = 3) -> str:
    """Return a size in decimal units, as files are sold: ``2.02 GB``, ``15 GB``, ``491 MB``.

    ``digits``: of a number below 10; a larger one has two decimals less.
    """
    for unit, size in _UNITS:
        value = count / size
        if abs(value) >= 0.9995:
            decimals = digits - 1 if abs(value) < 9.995 else digits - 3
            return f"{value:.{max(decimals, 0)}f} {unit}"
    return f"{count:.0f} B"


def compare_bytes(*counts: int) -> tuple[str, ...]:
    """Return sizes that stand side by side in a sentence, with digits enough to tell them apart."""
    for digits in range(3, _MOST_DIGITS):
        texts = tuple(format_bytes(count, digits) for count in counts)
        if len(set(texts)) == len(set(counts)):
            return texts
    return tuple(f"{count:,} B" for count in counts)


def format_part(part: int, whole: int) -> str:
    """Return ``1.24 of 1.36 GB``, or ``812 MB of 1.36 GB``."""
    first, second = compare_bytes(part, whole)
    number, _, unit = first.partition(" ")
    return f"{number if second.endswith(f' {unit}') else first} of {second}"


def format_gigabytes(count: float) -> str:
    """Return bytes as a number below a heading in GB: two decimals, three below 0.1."""
    return f"{count / 1e9:.{2 if abs(count) >= 1e8 else 3}f}"


def parse_bytes(text: str) -> int:
    """Return the bytes of a size such as ``1.9gb``; UsageError for what is none."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?(gb|mb|kb)", text.strip().lower())
    if not match or not float(match[1]):
        raise UsageError(
            f"{text!r} is not a size", "use a size such as 1.9gb or 700mb (1 GB = 1e9 bytes)"
        )
    return round(float(match[1]) * {"gb": 1e9, "mb": 1e6, "kb": 1e3}[match[2]])


def format_count(number: int, word: str) -> str:
    """Return ``1 line`` or ``3 lines``."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def format_millions(count: float) -> str:
    """Return a large number in millions: ``1,543.7 M``, ``0.26 M``."""
    return f"{count / 1e6:,.{2 if count < 1e7 else 1}f} M"


def format_price(usd: float) -> str:
    """Return a price: cents only where there are some."""
    return f"{usd:.2f}".removesuffix(".00")


def format_fixed(value: float, digits: int) -> str:
    """Return a number with ``digits`` decimals and commas between thousands."""
    return f"{value:,.{digits}f}"


def compare_fixed(*values: float, digits: int) -> tuple[str, ...]:
    """Return numbers that stand side by side, with decimals enough to tell them apart."""
    for more in range(digits, _MOST_DIGITS):
        texts = tuple(format_fixed(value, more) for value in values)
        if len(set(texts)) == len(set(values)):
            return texts
    return tuple(map(repr, values))


def format_significant(value: float, digits: int = 3) -> str:
    """Return a number with ``digits`` significant digits, but never an exponent.

    Digits before the point are never dropped.
    """
    whole = floor(log10(abs(value))) + 1 if value else 1
    return f"{value:,.{max(digits - whole, 0)}f}"


def format_share(share: float, digits: int = 0) -> str:
    """Return a share of 1 in per cent: ``97%``."""
    return f"{share:.{digits}%}"


def format_rate(tokens_per_second: float, digits: int = 1) -> str:
    """Return ``45.6 t/s``, or a dash for none yet."""
    return f"{tokens_per_second:.{digits}f} t/s" if tokens_per_second > 0 else f"{NONE} t/s"


def format_speed(value: float) -> str:
    """Return a rate below a heading that names its unit: one decimal, none from 100 on."""
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def format_range(values: Iterable[float]) -> str:
    """Return the least and the largest rate: ``4.1–9.8``; one where they read alike."""
    sorted_ = sorted(values)
    if not sorted_:
        return NONE
    low, high = format_speed(sorted_[0]), format_speed(sorted_[-1])
    return low if low == high else f"{low}–{high}"


def format_seconds(value: float) -> str:
    """Return ``0.31 s``, ``12.3 s``, ``2 min 5 s`` or ``1 h 20 min``."""
    if value < 99.95:
        return f"{value:.2f} s" if value < 9.995 else f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"


def format_bandwidth(gigabytes_per_second: float) -> str:
    """Return ``8.5 GB/s``."""
    return f"{gigabytes_per_second:.1f} GB/s"


def format_celsius(degrees: float) -> str:
    """Return ``61 °C``."""
    return f"{degrees:.0f} °C"


def format_megahertz(clock: float) -> str:
    """Return ``2400 MHz``."""
    return f"{clock:.0f} MHz"


def format_gigahertz(megahertz: float) -> str:
    """Return ``2.4 GHz``, where room is scarce."""
    return f"{megahertz / 1000:.1f} GHz"


def format_watts(watts: float) -> str:
    """Return ``5.12 W``."""
    return f"{watts:.2f} W"


def format_date(iso: str) -> str:
    """Return the date of a time in ISO 8601: ``2026-11-12``."""
    return iso[:10]


def format_day(seconds: float, now: float | None = None) -> str:
    """Return a time in seconds since 1970 as people here say it.

    ``14:05`` today, ``yesterday``, ``Tuesday`` within a week, ``12 Nov``, ``12 Nov 2025``.
    """
    then, today = time.localtime(seconds), time.localtime(now)
    days = date(*today[:3]).toordinal() - date(*then[:3]).toordinal()
    if days == 0:
        return time.strftime("%H:%M", then)
    if days == 1:
        return "yesterday"
    if 1 < days < 7:
        return _WEEKDAYS[then.tm_wday]
    words = f"{then.tm_mday} {_MONTHS[then.tm_mon - 1]}"
    return words if then.tm_year == today.tm_year else f"{words} {then.tm_year}"


def format_time_of_day(seconds: float) -> str:
    """Return the time of day of seconds since 1970, here: ``14:05:09``."""
    return time.strftime("%H:%M:%S", time.localtime(seconds))

"""Numbers between bounds as expressions of their decimal digits.

A number is written without an exponent where it has a bound, and with few enough digits that a
double has them all: what is greater in digits is greater when it is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from pitool.errors import UsageError
from pitool.grammar.rules import Rules, either, literal

DIGITS = 15
FRACTION = 6
MOST_REMAINDERS = 64
MOST_LISTED = 500
NUMBER = (
    f'"-"? ("0" | [1-9] [0-9]{{0,{DIGITS - 1}}}) ("." [0-9]{{1,{FRACTION}}})?'
    " ([eE] [-+]? [0-9]{1,2})?"
)


@dataclass(frozen=True, slots=True)
class Span:
    """Bounds, None where there is none; ``open_low`` and ``open_high``: without the bound itself.

    ``step``: what a number is a multiple of.
    """

    low: Decimal | None = None
    high: Decimal | None = None
    open_low: bool = False
    open_high: bool = False
    step: Decimal | None = None

    def __and__(self, other: Span) -> Span:
        low, open_low = _narrower(self.low, self.open_low, other.low, other.open_low, sign=1)
        high, open_high = _narrower(self.high, self.open_high, other.high, other.open_high, sign=-1)
        return Span(low, high, open_low, open_high, _step(self.step, other.step))

    def holds(self, value: Decimal) -> bool:
        """Tell whether a number is within."""
        if self.low is not None and (value < self.low or (self.open_low and value == self.low)):
            return False
        if self.high is not None and (value > self.high or (self.open_high and value == self.high)):
            return False
        return self.step is None or value % self.step == 0

    def apart(self, other: Span) -> bool:
        """Tell whether no number is in both."""
        both = self & replace(other, step=self.step)
        if both.low is None or both.high is None:
            return False
        return both.low > both.high or (both.low == both.high and (both.open_low or both.open_high))

    @property
    def whole(self) -> Span:
        """The bounds as those of whole numbers, both included."""
        low = None if self.low is None else self.low.to_integral_value("ROUND_CEILING")
        high = None if self.high is None else self.high.to_integral_value("ROUND_FLOOR")
        if low is not None and self.open_low and low == self.low:
            low += 1
        if high is not None and self.open_high and high == self.high:
            high -= 1
        return Span(low, high, step=self.step)


def _narrower(
    a: Decimal | None, open_a: bool, b: Decimal | None, open_b: bool, *, sign: int
) -> tuple[Decimal | None, bool]:
    if a is None or b is None:
        return (b, open_b) if a is None else (a, open_a)
    if a == b:
        return a, open_a or open_b
    return (a, open_a) if (a > b) == (sign > 0) else (b, open_b)


def _step(a: Decimal | None, b: Decimal | None) -> Decimal | None:
    if a is None or b is None or a == b:
        return b if a is None else a
    if a % b == 0 or b % a == 0:
        return max(a, b)
    raise UsageError("'multipleOf' with two numbers cannot be expressed", "use one of them")


# -- whole numbers -----------------------------------------------------------------------------


def integer(rules: Rules, span: Span) -> str | None:
    """Return the expression of whole numbers within bounds, None where there is none."""
    span = span.whole
    if span.step is not None and span.step != 1:
        return _multiples(rules, span, span.step)
    low = None if span.low is None else int(span.low)
    high = None if span.high is None else int(span.high)
    if low is not None and high is not None and low > high:
        return None
    parts = []
    if low is None or low < 0:
        least = 1 if high is None or high >= 0 else -high
        parts.append(f'"-" {_natural(least, None if low is None else -low)}')
    if high is None or high >= 0:
        parts.append(_natural(max(low or 0, 0), high))
    return either(parts)


def _natural(low: int, high: int | None) -> str:
    """Return the expression of the whole numbers from ``low``, 0 or more, to ``high``."""
    if high is None:
        high = 10 ** max(DIGITS, len(str(low))) - 1
    parts, size = [], len(str(low))
    if low not in (0, 10 ** (size - 1)) and size < len(str(high)):
        parts.append(_digits(str(low), "9" * size))
        low, size = 10**size, size + 1
    if low == 0:
        parts.append(_digits("0", str(min(high, 9))))
        low, size = 10, 2
    last = len(str(high))
    full = last if high == 10**last - 1 else last - 1
    if full > size:
        parts.append(f"[1-9] [0-9]{{{size - 1},{full - 1}}}")
        low = 10**full
    if low <= high:
        parts += [
            _digits(str(max(low, 10 ** (count - 1))), str(min(high, 10**count - 1)))
            for count in range(len(str(low)), last + 1)
        ]
    return either(parts)


def _digits(low: str, high: str) -> str:
    """Return the expression of digits as many as, and between, two equally long ones."""
    if low == high:
        return literal(low) if low else ""
    if low[0] == high[0]:
        return f"{literal(low[0])} {_digits(low[1:], high[1:])}"
    rest = len(low) - 1
    if low[1:] == "0" * rest and high[1:] == "9" * rest:
        return f"[{low[0]}-{high[0]}]" + (f" [0-9]{{{rest}}}" if rest else "")
    parts = [f"{literal(low[0])} {_digits(low[1:], '9' * rest)}"]
    if int(high[0]) - int(low[0]) > 1:
        parts.append(f"[{int(low[0]) + 1}-{int(high[0]) - 1}] [0-9]{{{rest}}}")
    return either([*parts, f"{literal(high[0])} {_digits('0' * rest, high[1:])}"])


def _multiples(rules: Rules, span: Span, step: Decimal) -> str | None:
    """Return the expression of the multiples of a whole number."""
    if step != step.to_integral_value():
        raise UsageError(
            f"'multipleOf' {step} cannot be expressed", "use a whole number, or leave it out"
        )
    size = int(step)
    if span.low is not None and span.high is not None:
        first = -(-int(span.low) // size) * size
        listed = range(first, int(span.high) + 1, size)
        if len(listed) > MOST_LISTED:
            raise _steps_between(step)
        return either(literal(str(number)) for number in listed) if listed else None
    if size > MOST_REMAINDERS or span.low not in (None, 0, 1) or span.high is not None:
        raise _steps_between(step)
    names = [rules.reserve(f"mod-{size}-{left}") for left in range(size)]
    for left, name in enumerate(names):
        ways = [f'"{digit}" {names[(left * 10 + digit) % size]}' for digit in range(10)]
        rules.define(name, " | ".join(['""', *ways] if left == 0 else ways))
    first_digits = either(f'"{digit}" {names[digit % size]}' for digit in range(1, 10))
    sign = '"-"? ' if span.low is None else ""
    return either(['"0"'] * (span.low != 1) + [f"{sign}{first_digits}"])


def _steps_between(step: Decimal) -> UsageError:
    return UsageError(
        f"'multipleOf' {step} cannot be expressed with these bounds",
        f"use bounds with at most {MOST_LISTED} multiples between them",
    )


# -- other numbers -----------------------------------------------------------------------------


def number(rules: Rules, span: Span) -> str | None:
    """Return the expression of the numbers within bounds, None where there is none."""
    low, high = span.low, span.high
    if span.step is not None or not (_is_short(low) and _is_short(high)):
        return integer(rules, span)
    if low is None and high is None:
        return rules.add("number", NUMBER)
    parts = []
    if low is None or low < 0:
        mirrored = Span(
            max(-high, Decimal(0)) if high is not None else Decimal(0),
            None if low is None else -low,
            span.open_high if high is not None and high < 0 else True,
            span.open_low,
        )
        parts += [f'"-" {part}' for part in _positive(mirrored)]
    if high is None or high > 0 or (high == 0 and not span.open_high):
        zero = low is None or low < 0
        parts += _positive(
            Span(Decimal(0) if zero else low, high, not zero and span.open_low, span.open_high)
        )
    return either(parts) if parts else None


def _positive(span: Span) -> list[str]:
    """Return expressions of the numbers from a bound that is 0 or more."""
    assert span.low is not None
    if span.high is not None and (
        span.low > span.high or (span.low == span.high and (span.open_low or span.open_high))
    ):
        return []
    first, above = _parts(span.low)
    if span.high is None:
        return [
            f"{literal(str(first))} {_above(above, strict=span.open_low)}",
            f"{_natural(first + 1, None)} {_any_fraction}",
        ]
    last, below = _parts(span.high)
    if first == last:
        inside = _between(above, below, span)
        return [f"{literal(str(first))} {inside}"] if inside else []
    parts = [f"{literal(str(first))} {_above(above, strict=span.open_low)}"]
    if last - first > 1:
        parts.append(f"{_natural(first + 1, last - 1)} {_any_fraction}")
    if (under := _below(below, strict=span.open_high)) is not None:
        parts.append(f"{literal(str(last))} {under}")
    return parts


_any_fraction = f'("." [0-9]{{1,{FRACTION}}})?'
_any_digits = f"[0-9]{{0,{FRACTION}}}"


def _parts(value: Decimal) -> tuple[int, str]:
    """Return the whole part of a number and the digits after the point, no zeros at the end."""
    whole, _, digits = f"{value:f}".partition(".")
    return int(whole), digits.rstrip("0")


def _is_short(bound: Decimal | None) -> bool:
    """Tell whether a number next to a bound has no more digits than a double."""
    if bound is None:
        return True
    whole, digits = _parts(abs(bound))
    return len(str(whole)) + len(digits) <= DIGITS - FRACTION


def _above(digits: str, *, strict: bool) -> str:
    """Return the expression of fractions, with their point, of at least these digits."""
    ways = _greater(digits)
    if strict:
        ways.append(f'{literal(digits)} "0"{{0,2}} [1-9] {_any_digits}')
    else:
        if not digits:
            return _any_fraction
        ways.append(f"{literal(digits)} {_any_digits}")
    return f'"." {either(ways)}'


def _greater(digits: str) -> list[str]:
    """Return expressions of digits that are greater at one place, equal before it."""
    return [
        f"{literal(digits[:at])} [{int(digit) + 1}-9] {_any_digits}"
        for at, digit in enumerate(digits)
        if digit != "9"
    ]


def _below(digits: str, *, strict: bool) -> str | None:
    """Return the expression of fractions of at most these digits, None where there is none."""
    if not digits:
        return None if strict else '("." "0")?'
    ways = _less(digits)
    ways += [literal(digits[:at]) for at in range(1, len(digits) + (not strict))]
    return f'("." {either(ways)})?' if ways else '""'


def _less(digits: str) -> list[str]:
    """Return expressions of digits that are less at one place, equal before it."""
    return [
        f"{literal(digits[:at])} [0-{int(digit) - 1}] {_any_digits}"
        for at, digit in enumerate(digits)
        if digit != "0"
    ]


def _between(low: str, high: str, span: Span) -> str | None:
    """Return the expression of fractions between those of two numbers of one whole part."""
    size = max(len(low), len(high))
    low, high = low.ljust(size, "0"), high.ljust(size, "0")
    same = next((at for at in range(size) if low[at] != high[at]), size)
    if same == size:  # the number itself
        return f'"." {literal(low)}' if low else '("." "0")?'
    before, a, b = literal(low[:same]), int(low[same]), int(high[same])
    ways = []
    if b - a > 1:
        ways.append(f"{before} [{a + 1}-{b - 1}] {_any_digits}")
    up, down = low[same + 1 :], high[same + 1 :].rstrip("0")
    ways += [f'{before} "{a}" {way}' for way in _greater(up)]
    zeros = f'"0"{{0,2}} [1-9] {_any_digits}'
    ways.append(f'{before} "{a}" {literal(up)} {zeros if span.open_low else _any_digits}')
    ways += [f'{before} "{b}" {way}' for way in _less(down)]
    ways += [f'{before} "{b}" {literal(down[:at])}' for at in range(len(down))]
    if not span.open_high:
        ways.append(f'{before} "{b}" {literal(down)}')
    fraction = f'"." {either(ways)}'
    if not low.strip("0") and not span.open_low:
        return f"({fraction})?"
    return fraction

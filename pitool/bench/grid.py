"""Lists and ranges of test parameters, and the runs that their cross product makes.

Syntax and order are llama-bench's: ``1-4`` counts, ``1-8+2`` steps, ``1-8*2`` multiplies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from pitool.bench.run import Workload
from pitool.engine.base import KV_TYPES, FlashAttention, Settings
from pitool.errors import UsageError
from pitool.spec import tables

LARGEST = 1 << 24
MOST_VALUES = 256
_RANGE = re.compile(r"(\d{1,8})(?:-(\d{1,8})(?:([+*])(\d{1,8}))?)?")
# llama-bench knows numbers and words; ``1`` is what its users write.
_FLASH: dict[str, FlashAttention] = {
    "auto": "auto",
    "-1": "auto",
    "on": "on",
    "1": "on",
    "off": "off",
    "0": "off",
}


@dataclass(frozen=True, slots=True)
class Grid:
    """Every value that a parameter is to take; an empty list leaves it as the board has it."""

    prompts: tuple[int, ...] = (512,)
    generates: tuple[int, ...] = (128,)
    both: tuple[tuple[int, int], ...] = ()
    depths: tuple[int, ...] = (0,)
    batches: tuple[int, ...] = ()
    micro_batches: tuple[int, ...] = ()
    key_types: tuple[str, ...] = ()
    value_types: tuple[str, ...] = ()
    flash: tuple[FlashAttention, ...] = ()
    threads: tuple[int, ...] = ()

    @property
    def workloads(self) -> list[Workload]:
        """Every test of one run: at each depth prompts, generations, then both together."""
        shapes = [Workload(prompt=n) for n in self.prompts if n]
        shapes += [Workload(generate=n) for n in self.generates if n]
        shapes += [Workload(p, g) for p, g in self.both if p or g]
        return [replace(shape, depth=depth) for depth in self.depths for shape in shapes]

    @property
    def context(self) -> int:
        """Tokens that the KV cache must hold for the largest test."""
        return max((test.context for test in self.workloads), default=0)

    def settings(self, base: Settings) -> Iterator[Settings]:
        """Yield what to load with, changed from ``base``, which has ``context`` tokens."""
        for batch, micro, keys, values, flash, threads in product(
            self.batches or (base.batch,),
            self.micro_batches or (base.micro_batch,),
            self.key_types or (base.kv_type,),
            self.value_types or (None,),
            self.flash or (base.flash_attention,),
            self.threads or (None,),
        ):
            yield replace(
                base,
                batch=batch,
                micro_batch=min(micro, batch),
                kv_type=keys,
                value_type=values,
                flash_attention=flash,
                decode_threads=threads or base.decode_threads,
                prefill_threads=threads or base.prefill_threads,
            )


def numbers(flag: str, text: str, least: int = 0) -> tuple[int, ...]:
    """Return the numbers of a list such as ``128,512-2048*2``; UsageError says what is wrong."""
    found: list[int] = []
    for part in text.split(","):
        found += _range(flag, part.strip(), least)
    if len(found) > MOST_VALUES:
        raise UsageError(
            f"{flag} {text} has {len(found)} values", f"give at most {MOST_VALUES} of them"
        )
    return tuple(found)


def number(flag: str, text: str, least: int = 1) -> int:
    """Return one number."""
    found = numbers(flag, text, least)
    if len(found) != 1:
        raise UsageError(f"{flag} {text} is a list", "give one number")
    return found[0]


def _range(flag: str, text: str, least: int) -> list[int]:
    match = _RANGE.fullmatch(text) if text.isascii() else None
    if match is None:
        raise UsageError(
            f"{flag} {text!r} is not a whole number or a range",
            "write it as 512, 128,512, 1-4, 1-8+2 or 1-8*2",
        )
    first, last, sign, step = match.groups()
    value, end, by = int(first), int(last or first), int(step or 1)
    if not least <= value <= end <= LARGEST:
        raise UsageError(f"{flag} {text} is out of range", f"give one from {least} to {LARGEST}")
    if end > value and (by == 0 or (sign == "*" and (by == 1 or value == 0))):
        raise UsageError(f"{flag} {text} never reaches {end}", "give a larger step or first number")
    following: Callable[[int], int] = (lambda n: n * by) if sign == "*" else (lambda n: n + by)
    values: list[int] = []
    while value <= end and len(values) <= MOST_VALUES:
        values.append(value)
        value = following(value)
    return values


def pairs(flag: str, texts: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Return prompt and generation of each ``512,128``."""
    found = []
    for text in texts:
        parts = numbers(flag, text)
        if len(parts) != 2:
            raise UsageError(f"{flag} {text} is not a pair", "write it as 512,128")
        found.append((parts[0], parts[1]))
    return tuple(found)


def kv_types(flag: str, text: str) -> tuple[str, ...]:
    """Return the KV cache types of a list."""
    known = dict.fromkeys(KV_TYPES, True)
    names = [part.strip().lower() for part in text.split(",")]
    for name in names:
        tables.lookup(known, name, f"KV cache type for {flag}", UsageError)
    return tuple(names)


def flash(flag: str, text: str) -> tuple[FlashAttention, ...]:
    """Return the settings of flash attention of a list, by words or llama.cpp's numbers."""
    names = [part.strip().lower() for part in text.split(",")]
    return tuple(tables.lookup(_FLASH, name, f"setting for {flag}", UsageError) for name in names)

"""Lists and ranges of test parameters, and the runs that their cross product makes.

Syntax and order are llama-bench's: ``1-4`` counts, ``1-8+2`` steps, ``1-8*2`` multiplies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeVar

from pitool.bench.run import Workload
from pitool.catalog import tables
from pitool.catalog.kv_types import KV_TYPES
from pitool.engine.base import FlashAttention, LoadMode, Settings
from pitool.errors import UsageError
from pitool.planning.formats import find_format

Value = TypeVar("Value")
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
_LOAD_MODES: dict[str, LoadMode] = {
    "none": "read",
    "mmap": "mmap",
    "mlock": "mlock",
    "mmap+mlock": "mlock",
}
_SWITCH = {"0": False, "1": True}


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
    load_modes: tuple[LoadMode, ...] = ()
    repack: tuple[bool, ...] = ()

    @property
    def varied(self) -> frozenset[str]:
        """llama-bench's names of the fields that take several values, threads apart."""
        lists: dict[str, Sequence[object]] = {
            "n_batch": self.batches,
            "n_ubatch": self.micro_batches,
            "type_k": self.key_types,
            "type_v": self.value_types,
            "flash_attn": self.flash,
            "load_mode": self.load_modes,
            "repack": self.repack,
        }
        return frozenset(name for name, values in lists.items() if len(values) > 1)

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

    def of_format(self, format_name: str) -> Grid:
        """Return the grid without what the runtime of a format does not have."""
        if find_format(format_name).tunable:
            return self
        return replace(self, key_types=(), value_types=(), flash=(), load_modes=(), repack=())

    def settings(self, base: Settings) -> Iterator[Settings]:
        """Yield what to load with, changed from ``base``, which has ``context`` tokens."""
        for mode, repack, batch, micro, keys, values, flash, threads in product(
            self.load_modes or (base.load_mode,),
            self.repack or (base.repack,),
            self.batches or (base.batch,),
            self.micro_batches or (base.micro_batch,),
            self.key_types or (base.kv_type,),
            self.value_types or (base.value_type or base.kv_type,),
            self.flash or (base.flash_attention,),
            self.threads or (None,),
        ):
            yield replace(
                base,
                load_mode=mode,
                repack=repack,
                batch=batch,
                micro_batch=min(micro, batch),
                kv_type=keys,
                value_type=None if values == keys else values,
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
        raise UsageError(f"{flag} {text} has {len(found)} values", f"use at most {MOST_VALUES}")
    return tuple(found)


def number(flag: str, text: str, least: int = 1) -> int:
    """Return one number."""
    found = numbers(flag, text, least)
    if len(found) != 1:
        raise UsageError(f"{flag} {text} is a list", "use a single number")
    return found[0]


def _range(flag: str, text: str, least: int) -> list[int]:
    match = _RANGE.fullmatch(text) if text.isascii() else None
    if match is None:
        raise UsageError(
            f"{flag} {text!r} is not a whole number or a range",
            "use a number (512), a list (128,512) or a range (1-4, 1-8+2, 1-8*2)",
        )
    first, last, sign, step = match.groups()
    value, end, by = int(first), int(last or first), int(step or 1)
    if not least <= value <= end <= LARGEST:
        raise UsageError(
            f"{flag} {text} is out of range", f"use a number from {least} to {LARGEST}"
        )
    if end > value and (by == 0 or (sign == "*" and (by == 1 or value == 0))):
        raise UsageError(f"{flag} {text} never reaches {end}", "use a larger step or first number")
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
    return _words(flag, text, {name: name for name in KV_TYPES})


def flash(flag: str, text: str) -> tuple[FlashAttention, ...]:
    """Return the settings of flash attention of a list, by words or llama.cpp's numbers."""
    return _words(flag, text, _FLASH)


def load_modes(flag: str, text: str) -> tuple[LoadMode, ...]:
    """Return the load modes of a list, by llama-bench's names."""
    return _words(flag, text, _LOAD_MODES)


def switches(flag: str, text: str) -> tuple[bool, ...]:
    """Return the truth values of a list of 0 and 1."""
    return _words(flag, text, _SWITCH)


def _words(flag: str, text: str, known: Mapping[str, Value]) -> tuple[Value, ...]:
    names = [part.strip().lower() for part in text.split(",")]
    return tuple(tables.lookup(known, name, f"value of {flag}", UsageError) for name in names)

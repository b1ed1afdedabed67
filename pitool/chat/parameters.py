"""Sampling by name: what ``/set`` accepts, the presets, and the ranges that the engines accept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

from pitool.catalog.tables import nearest
from pitool.engine.base import Sampling
from pitool.errors import UsageError

PRESETS: dict[str, dict[str, float | int]] = {
    "exact": {"temperature": 0.0},
    "precise": {"temperature": 0.3, "top_k": 40, "top_p": 0.9, "min_p": 0.05},
    "balanced": {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05},
    "creative": {"temperature": 1.1, "top_k": 100, "top_p": 0.98, "min_p": 0.02},
}
"""Named settings; ``balanced`` is what a conversation begins with."""

NONE = "off"
_AS_FLAGS = {"temp": "temperature"}
"""How ``pitool run`` calls a parameter, where that is another word."""


def _number(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return read


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return read


def _optional(read: Callable[[str], int]) -> Callable[[str], int | None]:
    return lambda text: None if text == NONE else read(text)


def _stops(text: str) -> tuple[str, ...]:
    return () if text == NONE else tuple(word.replace("\\n", "\n") for word in text.split())


_READERS: dict[str, tuple[Callable[[str], object], str]] = {
    "temperature": (_number(0, 5), "a number from 0 (greedy) to 5"),
    "top_k": (_whole(0, 1_000_000), "a whole number, 0 for all"),
    "top_p": (_number(0, 1), "a number from 0 to 1"),
    "min_p": (_number(0, 1), "a number from 0 to 1"),
    "repeat_penalty": (_number(0.01, 10), "a number from 0.01 to 10, 1 for none"),
    "presence_penalty": (_number(-2, 2), "a number from -2 to 2, 0 for none"),
    "frequency_penalty": (_number(-2, 2), "a number from -2 to 2, 0 for none"),
    "repeat_window": (_whole(0, 1_000_000), "a whole number of tokens, 0 for none"),
    "seed": (_optional(_whole(0, 2**32 - 1)), f"a whole number, or {NONE} for a new one each time"),
    "max_tokens": (_optional(_whole(1, 1_000_000)), f"a whole number, or {NONE}"),
    "stop": (_stops, f"texts that end an answer, or {NONE}"),
}


def names() -> list[str]:
    """Return what can be set: presets, then parameters."""
    return [*PRESETS, *_READERS]


def change(sampling: Sampling, name: str, value: str) -> Sampling:
    """Return the sampling with a preset, or with one parameter read from a text.

    UsageError names what would be accepted.
    """
    name = _AS_FLAGS.get(name, name).replace("-", "_")
    if name in PRESETS and not value:
        return replace(sampling, **PRESETS[name])  # type: ignore[arg-type]
    if name not in _READERS:
        raise UsageError(f"unknown parameter {name!r}", nearest(name, [*names(), "full"]))
    read, wanted = _READERS[name]
    try:
        return replace(sampling, **{name: read(value)})  # type: ignore[arg-type]
    except ValueError:
        raise UsageError(
            f"{name} cannot be {value!r}" if value else f"{name} needs a value", f"use {wanted}"
        ) from None


def shown(sampling: Sampling) -> list[tuple[str, str, str]]:
    """Return name, value and what is accepted of every parameter that can be set."""
    return [
        (name, _text(getattr(sampling, name)), wanted) for name, (_, wanted) in _READERS.items()
    ]


def preset_of(sampling: Sampling) -> str:
    """Return the preset that a sampling has all values of, or an empty text."""
    values = asdict(sampling)
    found = (name for name, preset in PRESETS.items() if preset.items() <= values.items())
    return next(found, "")


def _text(value: object) -> str:
    if value is None or value == ():
        return NONE
    if isinstance(value, tuple):
        return " ".join(str(word).replace("\n", "\\n") for word in value)
    return f"{value:g}" if isinstance(value, float) else str(value)

"""Reads TOML tables into frozen dataclasses and refuses what they do not know.

Owns the strictness: unknown keys (with the nearest known one named), missing keys and wrong
types are each one sentence. Knows nothing of what the tables mean.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, Union

from pitool.catalog import reading
from pitool.errors import BadInput, PitoolError, reason

T = TypeVar("T")
# What fits in 64 bits.
LARGEST_NUMBER = (1 << 63) - 1


def nearest(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return a clause that names what is close to ``word``; ``otherwise``, or everything known."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return otherwise or f"choose from: {', '.join(known)}"


def names_in(text: str) -> list[str]:
    """Return the words that commas separate in ``text``."""
    return [name.strip() for name in text.split(",") if name.strip()]


def lookup(table: Mapping[str, T], key: str, kind: str, error: type[PitoolError]) -> T:
    """Return ``table[key]``, or raise ``error`` that names the nearest key."""
    if key not in table:
        raise error(f"unknown {kind} {key!r}", nearest(key, table))
    return table[key]


def recipes_folder() -> Path:
    """Return the folder of the data files: inside an installed package, or beside it in a clone."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def read_toml(path: Path) -> dict[str, Any]:
    """Return the parsed file; BadInput when it is missing or not TOML."""
    try:
        return reading.parse_toml(reading.read_bytes(path))
    except FileNotFoundError:
        raise BadInput(f"{path} is missing", "reinstall pitool or restore the file") from None
    except OSError as error:
        raise BadInput(f"cannot read {path} ({reason(error)})", "check the file") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"cannot read {path} ({error})", "save it as UTF-8") from None
    except ValueError as error:
        raise BadInput(f"{path} is not valid TOML ({error})", "correct that line") from None


def build(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """Return ``cls(**table)`` with nested dataclasses built, or BadInput that names ``where``."""
    if not isinstance(table, Mapping):
        raise BadInput(f"{where} is not a table", f"use the keys of a {cls.__name__.lower()}")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            raise BadInput(f"{where} has an unknown key {key!r}", nearest(key, fields))
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in table:
            values[name] = _value(hints[name], table[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise BadInput(f"{where} has no {name!r}", "add it")
    try:
        return cls(**values)
    except ValueError as error:
        raise BadInput(f"{where}: {error}", "correct it") from None


def _value(hint: Any, value: Any, where: str) -> Any:
    """Check one value against its type hint and return it in its frozen form."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (inner,) = [a for a in arguments if a is not type(None)]
        return _value(inner, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise BadInput(f"{where} is not a list", "write it in square brackets")
        return tuple(_value(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise BadInput(f"{where} is not a table", "write it as key = value")
        return {k: _value(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        return build(typing.cast("type[Any]", hint), value, where)
    if hint is not Any and type(value) is not hint and not (hint is float and type(value) is int):
        raise BadInput(
            f"{where} is {type(value).__name__}, not {hint.__name__}", "correct its type"
        )
    if type(value) in (int, float):
        _check_number(value, where)
    return float(value) if hint is float else value


def _check_number(value: float, where: str) -> None:
    """Raise BadInput for what no size and no speed can be."""
    if not math.isfinite(value) if isinstance(value, float) else abs(value) > LARGEST_NUMBER:
        raise BadInput(f"{where} is {value!r:.40}, which is out of range", "correct it")

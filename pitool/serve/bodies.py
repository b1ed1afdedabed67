"""The JSON of requests, and its fields: each is read with its limits, or refused by its name.

Nothing that would change an answer is ignored: a field that nobody reads is an error, unless it is
listed as harmless or asks for nothing special. null is as good as nothing.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from pitool.catalog import reading
from pitool.catalog.tables import nearest
from pitool.errors import UsageError
from pitool.serve.pump import in_thread

if TYPE_CHECKING:  # a prompt's file is read by commands that start no server
    from starlette.requests import Request

# A longer body is parsed beside the event loop; one at a time, for it takes thirty times its size.
LARGE = 1 << 16
_parsing = threading.Lock()


async def read_body(request: Request) -> Fields:
    """Return the object that a request sends; UsageError where it is none."""
    data = await request.body()
    if len(data) <= LARGE:
        return parse(data)
    return await in_thread(lambda: _parse_alone(data))


def _parse_alone(data: bytes) -> Fields:
    with _parsing:
        return parse(data)


def parse(data: bytes) -> Fields:
    """Return the object of a body; UsageError where it is none."""
    try:
        value = reading.parse_json(data)
    except ValueError:
        raise UsageError("the body is not JSON", "send a JSON object") from None
    return Fields(value)


class Fields:
    """A JSON object whose fields are taken one by one; ``where`` says in errors whose they are."""

    def __init__(self, value: object, where: str = "the body") -> None:
        if not isinstance(value, Mapping):
            raise UsageError(f"{where} is not a JSON object", "send a JSON object")
        self._left = {name: each for name, each in value.items() if each is not None}
        self._known: set[str] = set()
        self._where = where

    def take(self, name: str) -> Any:
        """Return a field as it is, None where it is not there."""
        self._known.add(name)
        return self._left.pop(name, None)

    def number(self, name: str, low: float, high: float) -> float | None:
        """Return a number between two limits."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UsageError(f"{name!r} is not a number", f"use {low:g} to {high:g}")
        if not low <= value <= high:
            raise UsageError(f"{name!r} is {value:g}", f"use {low:g} to {high:g}")
        return float(value)

    def integer(self, name: str, low: int, high: int = 2**63) -> int | None:
        """Return a whole number between two limits; 3.0 is one."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            most = "or more" if high >= 2**63 else f"to {high}"
            raise UsageError(f"{name!r} is not a whole number", f"use {low} {most}")
        return value

    def flag(self, name: str) -> bool | None:
        """Return true or false."""
        value = self.take(name)
        if value is not None and not isinstance(value, bool):
            raise UsageError(f"{name!r} is not a boolean", "use true or false")
        return value

    def text(self, name: str) -> str | None:
        """Return a string."""
        value = self.take(name)
        if value is not None and not isinstance(value, str):
            raise UsageError(f"{name!r} is not a string", "send a string")
        return value

    def word(self, name: str, words: Collection[str]) -> str | None:
        """Return one of some words."""
        value = self.text(name)
        if value is not None and value not in words:
            raise UsageError(f"{name!r} is {value!r}", nearest(value, words))
        return value

    def list(self, name: str) -> list[Any] | None:
        """Return a list."""
        value = self.take(name)
        if value is not None and not isinstance(value, list):
            raise UsageError(f"{name!r} is not a list", "send a list")
        return value

    def fields(self, name: str) -> Fields | None:
        """Return an object."""
        value = self.take(name)
        return None if value is None else Fields(value, repr(name))

    def plain(self, values: Mapping[str, Collection[object]]) -> None:
        """Refuse fields that ask for something special; ``values``: what asks for nothing."""
        for name, allowed in values.items():
            value = self.take(name)
            if value is not None and not any(value == each for each in allowed):
                only = json.dumps(next(iter(allowed), None))
                raise UsageError(f"{name!r} is not supported", f"drop it, or send {only}")

    def ignore(self, *names: str) -> None:
        """Take fields that change nothing of the answer."""
        for name in names:
            self.take(name)

    def done(self) -> None:
        """Refuse what is left."""
        for name in self._left:
            what = f"{name!r} is not supported in {self._where}"
            raise UsageError(what, nearest(name, self._known, "drop it"))

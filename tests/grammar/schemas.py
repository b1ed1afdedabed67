"""Random JSON Schemas as programs send them, all of which can be expressed."""

from __future__ import annotations

import random
from typing import Any

_WORDS = (
    "name", "age", "city", "price", "tags", "active", "email", "score", "unit", "items", "title",
    "year", "colour", "size", "owner", "count", "level", "note", "address", "rating",
)  # fmt: skip
_PATTERNS = (
    r"^[A-Z]{2}[0-9]{3}$",
    r"^(low|mid|high)$",
    r"^\+?[0-9 ]{4,12}$",
    r"^[a-z]+(-[a-z]+)*$",
)
_FORMATS = ("date", "date-time", "time", "uuid", "ipv4", "email", "hostname")


def random_schema(seed: int) -> dict[str, Any]:
    """Return the schema of an object, some members of which are objects and arrays."""
    source = random.Random(seed)
    schema = _object(source, 0)
    if source.random() < 0.15:
        schema["$defs"] = {"Node": _object(source, 2)}
        schema["properties"]["node"] = {"$ref": "#/$defs/Node"}
        schema["required"] = [*schema["required"], "node"]
    return schema


def _object(source: random.Random, depth: int) -> dict[str, Any]:
    names = source.sample(_WORDS, source.randint(1, 4 - depth))
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: _any(source, depth + 1) for name in names},
        "required": [name for name in names if source.random() < 0.7],
    }
    if source.random() < 0.5:
        schema["additionalProperties"] = False
    return schema


def _any(source: random.Random, depth: int) -> dict[str, Any]:
    makers = [_text, _whole, _number, _choice, lambda _: {"type": "boolean"}, _nullable]
    if depth < 3:
        makers += [lambda s: _object(s, depth), lambda s: _array(s, depth), _either]
    return source.choice(makers)(source)


def _text(source: random.Random) -> dict[str, Any]:
    kind = source.randrange(4)
    if kind == 0:
        return {"type": "string", "pattern": source.choice(_PATTERNS)}
    if kind == 1:
        return {"type": "string", "format": source.choice(_FORMATS)}
    least = source.randint(0, 5)
    return {"type": "string", "minLength": least, "maxLength": least + source.randint(3, 20)}


def _whole(source: random.Random) -> dict[str, Any]:
    low = source.randint(-200, 2000)
    schema: dict[str, Any] = {"type": "integer", "minimum": low}
    if source.random() < 0.7:
        schema["maximum"] = low + source.randint(1, 300)
    if source.random() < 0.2:
        schema = {"type": "integer", "multipleOf": source.choice((2, 5, 10))}
    return schema


def _number(source: random.Random) -> dict[str, Any]:
    low = round(source.uniform(-10, 10), source.randint(0, 3))
    bound = source.choice(("minimum", "exclusiveMinimum"))
    other = source.choice(("maximum", "exclusiveMaximum"))
    return {"type": "number", bound: low, other: low + source.choice((0.5, 1, 12.25))}


def _choice(source: random.Random) -> dict[str, Any]:
    if source.random() < 0.3:
        return {"enum": [1, "one", None, 2.5]}
    return {"type": "string", "enum": source.sample(("red", "green", 'a "b"', "früh", "x y"), 3)}


def _nullable(source: random.Random) -> dict[str, Any]:
    return {"anyOf": [_text(source), {"type": "null"}]}


def _array(source: random.Random, depth: int) -> dict[str, Any]:
    least = source.randint(0, 2)
    schema: dict[str, Any] = {"type": "array", "items": _any(source, depth + 1), "minItems": least}
    schema["maxItems"] = least + source.randint(1, 3)
    return schema


def _either(source: random.Random) -> dict[str, Any]:
    kinds = ("circle", "square")
    return {
        "oneOf": [
            {
                "type": "object",
                "properties": {"kind": {"const": kind}, "size": _whole(source)},
                "required": ["kind", "size"],
            }
            for kind in kinds
        ]
    }

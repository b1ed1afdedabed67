"""The paths of ``pitool serve`` with their fields, from its own OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pitool.serve.app import ENDPOINTS
from pitool.serve.openapi import document
from scripts.reference.markdown import code, table

Schema = Mapping[str, Any]


def lines() -> Iterator[str]:
    """Yield the paths in the order of the application, then the statuses."""
    described = document((path, method) for path, method, _ in ENDPOINTS)
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield from _operation(path, method.upper(), operation)
    yield from ("## Statuses of errors", "")
    errors = described["paths"]["/v1/chat/completions"]["post"]["responses"]
    rows = ((status, answer["description"]) for status, answer in errors.items() if status != "200")
    yield from table(("status", "means"), rows)


def _operation(path: str, method: str, operation: Schema) -> Iterator[str]:
    kinds = operation["responses"]["200"]["content"]
    yield from (f"## {method} {path}", "", f"Answers with {code(kinds)}.", "")
    body = operation.get("requestBody")
    if body is None:
        return
    schema = body["content"]["application/json"]["schema"]
    rows = (
        (f"`{name}`" + (" (required)" if name in schema["required"] else ""), _values(field))
        for name, field in schema["properties"].items()
    )
    yield from table(("field", "values"), rows)
    yield ""


def _values(schema: Schema) -> str:
    """Return in words what a field takes; null, which means that it is not set, is left out."""
    said = schema.get("description", "")
    if "enum" in schema:
        words = code(_json(value) for value in schema["enum"] if value is not None)
    elif "const" in schema:
        words = code([_json(schema["const"])])
    elif "oneOf" in schema:
        found = (_values(each) for each in schema["oneOf"] if each.get("type") != "null")
        words = ", or ".join(dict.fromkeys(found))
    else:
        words = _typed(schema)
    return f"{words} ({said})" if said else words


def _typed(schema: Schema) -> str:
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return " or ".join(_kind(kind, schema) for kind in kinds if kind != "null")


def _kind(kind: str, schema: Schema) -> str:
    if kind == "array":
        return f"list ({_values(schema['items'])})"
    if kind == "object":
        inside = schema.get("properties")
        return f"object with {code(inside)}" if inside else "object"
    if kind in ("number", "integer"):
        return ("number" if kind == "number" else "whole number") + _bounds(schema)
    return {"string": "text", "boolean": "`true` or `false`"}[kind]


def _bounds(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if (above := schema.get("exclusiveMinimum")) is not None:
        return f" above {above}" + (f", at most {high}" if high is not None else "")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    return f", {low} or more" if low is not None else ""


def _json(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value

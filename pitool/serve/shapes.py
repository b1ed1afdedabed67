"""What an answer may be: any text, JSON, JSON of a schema, or what a grammar says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pitool.errors import UsageError
from pitool.grammar import grammar_of_schema
from pitool.serve.bodies import Fields

ANY_OBJECT: Mapping[str, Any] = {"type": "object"}
FORMS = ("text", "json_object", "json_schema")

Shape = str | Mapping[str, Any] | None
"""A grammar in llama.cpp's GBNF, a JSON Schema, or nothing for any text."""


def grammar(of: Shape) -> str:
    """Return what an answer may be as a grammar; UsageError for a schema that cannot be one."""
    if of is None or isinstance(of, str):
        return of or ""
    return grammar_of_schema(of)


def shape(fields: Fields) -> Shape:
    """Return what an answer may be; OpenAI's names, and those of llama.cpp's server."""
    found: list[Shape] = [
        _form(fields.fields("response_format")),
        fields.text("grammar") or None,
        _schema(fields.take("json_schema"), "'json_schema'"),
    ]
    given = [each for each in found if each is not None]
    if len(given) > 1:
        raise UsageError("an answer cannot have two formats", "send one of them")
    return given[0] if given else None


def _form(form: Fields | None) -> Shape:
    if form is None:
        return None
    kind = form.word("type", FORMS)
    inner = form.fields("json_schema")
    made = _schema(form.take("schema"), "the schema of 'response_format'")
    if inner is not None:
        made = schema_of(inner)
    form.done()
    if kind is None:
        raise UsageError("'response_format' has no type", f"use one of: {', '.join(FORMS)}")
    if kind == "text":
        return None
    return ANY_OBJECT if made is None else made


def schema_of(named: Fields) -> Shape:
    """Return the schema of an object that names it."""
    made = _schema(named.take("schema"), "the schema of 'response_format'")
    named.ignore("name", "description", "strict", "type")
    named.done()
    return ANY_OBJECT if made is None else made


def _schema(value: object, where: str) -> Shape:
    if value is None or isinstance(value, Mapping):
        return value
    raise UsageError(f"{where} is not a JSON Schema", "send an object")

"""JSON Schema to a grammar: what it admits follows the schema; the rest is refused by name.

Judges: the JSON Schema Test Suite, whose invalid instances no grammar may admit, and the
jsonschema package, by which random answers of random schemas have to be valid.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pitool.errors import UsageError
from pitool.grammar import JSON_OBJECT, grammar_of_schema
from tests.grammar.schemas import random_schema
from tests.grammar.texts import Grammar

SUITE = sorted((Path(__file__).parent / "suite").glob("*.json"))


def answers(schema: Any, count: int = 25, seed: int = 0) -> list[str]:
    source = random.Random(seed)
    grammar = Grammar(grammar_of_schema(schema))
    return [grammar.answer(source) for _ in range(count)]


def faults(schema: Any, texts: list[str], *, formats: bool = False) -> list[str]:
    jsonschema = pytest.importorskip("jsonschema")
    kind = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    checker = kind(schema, format_checker=kind.FORMAT_CHECKER if formats else None)
    return [
        f"{text}: {error.message}"
        for text in texts
        for error in checker.iter_errors(json.loads(text))
    ]


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(200))
def test_random_answers_of_random_schemas_are_valid(seed: int) -> None:
    schema = random_schema(seed)
    assert not faults(schema, answers(schema, seed=seed), formats=True)


@pytest.mark.parametrize("path", SUITE, ids=lambda path: path.stem)
def test_answers_of_the_suites_schemas_are_valid(path: Path) -> None:
    for group in json.loads(path.read_text()):
        try:
            texts = answers(group["schema"])
        except UsageError:
            continue
        assert not faults(group["schema"], texts), group["description"]


def test_most_of_the_suites_schemas_can_be_expressed() -> None:
    count = Counter[bool]()
    for path in SUITE:
        for group in json.loads(path.read_text()):
            try:
                grammar_of_schema(group["schema"])
            except UsageError:
                count[False] += 1
            else:
                count[True] += 1
    assert len(SUITE) >= 30
    assert count[True] > 2 * count[False]


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"not": {"type": "string"}}, "'not'"),
        ({"if": {}, "then": {"type": "string"}}, "'if'"),
        ({"type": "array", "contains": {"type": "string"}}, "'contains'"),
        ({"type": "array", "uniqueItems": True}, "'uniqueItems'"),
        ({"type": "object", "patternProperties": {"^a": {"type": "string"}}}, "'patternProp"),
        ({"type": "object", "propertyNames": {"maxLength": 3}}, "'propertyNames'"),
        ({"oneOf": [{"type": "integer"}, {"minimum": 2}]}, "'oneOf'"),
        ({"type": "string", "pattern": "^(?=a)b$"}, "pattern"),
        ({"type": "string", "pattern": r"^(a)\1$"}, "pattern"),
        ({"type": "string", "pattern": "^a+$", "maxLength": 4}, "limits of length"),
        ({"type": "string", "minLength": 5000}, "5000"),
        ({"type": "number", "multipleOf": 0.1}, "'multipleOf'"),
        ({"$ref": "https://example.org/x.json"}, "'$ref'"),
        ({"$ref": "#/$defs/missing"}, "'$ref'"),
        ({"$ref": "#"}, "'$ref'"),
        ({"type": "text"}, "'type'"),
        ({"type": "string", "minLength": "3"}, "'minLength'"),
        ({"enum": "a"}, "'enum'"),
        (False, "no value"),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "no value"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "no value"),
        ([], "not a JSON Schema"),
        ({"type": "object", "minProperties": 3}, "'minProperties'"),
    ],
)
def test_what_cannot_be_expressed_is_named(schema: Any, named: str) -> None:
    with pytest.raises(UsageError) as caught:
        grammar_of_schema(schema)
    assert named in caught.value.what


def test_a_schema_without_an_end_is_refused_soon() -> None:
    wide = {"anyOf": [{"type": "object", "required": [str(i)]} for i in range(20)]}
    with pytest.raises(UsageError, match="combinations"):
        grammar_of_schema({"allOf": [wide, wide, wide]})
    names = {f"n{i}": {"enum": [f"{i}{j}" * 40 for j in range(200)]} for i in range(200)}
    with pytest.raises(UsageError, match="too large"):
        grammar_of_schema({"type": "object", "properties": names})


def test_members_come_in_their_order_and_only_optional_ones_are_left_out() -> None:
    schema = {
        "type": "object",
        "properties": {name: {"type": "null"} for name in "cab"},
        "required": ["a"],
    }
    found = {tuple(json.loads(text)) for text in answers(schema, 100)}
    assert found == {("c", "a", "b"), ("c", "a"), ("a", "b"), ("a",)}


def test_other_members_have_other_names() -> None:
    schema = {
        "type": "object",
        "properties": {"ab": {"type": "null"}, "a": {"type": "null"}},
        "additionalProperties": {"type": "integer"},
    }
    texts = answers(schema, 300)
    assert not faults(schema, texts)
    assert any(set(json.loads(text)) - {"a", "ab"} for text in texts)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 9), (7, 7), (-5, 12), (95, 1203), (-1300, -7), (0, 10**15), (None, -3)]
)
def test_whole_numbers_lie_within_their_bounds_and_reach_them(low: int | None, high: int) -> None:
    schema: dict[str, Any] = {"type": "integer", "maximum": high}
    if low is not None:
        schema["minimum"] = low
    found = {json.loads(text) for text in answers(schema, 400)}
    assert all((low is None or low <= number) and number <= high for number in found)
    if low is not None and high - low < 20:
        assert found == set(range(low, high + 1))


def test_a_json_object_is_any_object() -> None:
    values = [json.loads(text) for text in answers(JSON_OBJECT, 60)]
    assert all(isinstance(value, dict) for value in values)
    assert any(values)

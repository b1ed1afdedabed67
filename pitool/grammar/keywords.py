"""From the keywords of a JSON Schema to branches; what cannot be expressed is refused by name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

from pitool.errors import UsageError
from pitool.grammar.branches import (
    KINDS,
    Branch,
    Items,
    Members,
    Schemas,
    Size,
    Texts,
    apart,
    same,
)
from pitool.grammar.numbers import Span

MOST_BRANCHES = 200
# Keywords that no grammar here expresses, and the kind of values that they are about, if one.
_REFUSED = {
    "not": "", "if": "", "$dynamicRef": "", "$recursiveRef": "",
    "patternProperties": "object", "propertyNames": "object", "unevaluatedProperties": "object",
    "contains": "array", "unevaluatedItems": "array", "uniqueItems": "array",
}  # fmt: skip
_TYPES = {"integer": "number"} | {kind: kind for kind in KINDS}


class Document:
    """A schema and what its references are to."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._known: dict[str, Sequence[Branch]] = {}
        self._following: list[str] = []

    def expand(self, schemas: Schemas) -> Sequence[Branch]:
        """Return the branches of schemas that hold together, none where no value follows all."""
        key = json.dumps(schemas, sort_keys=True)
        if key not in self._known:
            branches: Sequence[Branch] = [Branch()]
            for schema in schemas:
                branches = _product(branches, self._branches(schema))
            self._known[key] = branches
        return self._known[key]

    def _branches(self, schema: Any) -> Sequence[Branch]:
        if isinstance(schema, bool):
            return [Branch()] if schema else []
        if not isinstance(schema, Mapping):
            raise UsageError(f"{_shown(schema)} is not a JSON Schema", "use an object")
        own = _own(schema)
        branches: Sequence[Branch] = [own] if own.possible else []
        if "$ref" in schema:
            branches = _product(branches, self._follow(schema["$ref"]))
        for each in _schemas(schema, "allOf"):
            branches = _product(branches, self._branches(each))
        if "anyOf" in schema:
            ways = [b for each in _schemas(schema, "anyOf") for b in self._branches(each)]
            branches = _product(branches, ways)
        if "oneOf" in schema:
            branches = self._one_of(branches, _schemas(schema, "oneOf"))
        for keyword in ("dependentRequired", "dependentSchemas", "dependencies"):
            for name, needed in _mapping(schema, keyword).items():
                has = Branch(members=Members(required=frozenset({name})))
                ways = [_lacks(name), *_product([has], self._depends(needed))]
                branches = _product(branches, ways)
        return [_closed(branch, schema) for branch in branches]

    def _depends(self, needed: Any) -> Sequence[Branch]:
        """Return the branches of what a member asks for: others, or a schema."""
        if isinstance(needed, list):
            return [Branch(members=Members(required=frozenset(map(str, needed))))]
        return self._branches(needed)

    def _one_of(self, branches: Sequence[Branch], schemas: Sequence[Any]) -> Sequence[Branch]:
        ways = [_product(branches, self._branches(each)) for each in schemas]
        for place, way in enumerate(ways):
            for other in ways[place + 1 :]:
                if not all(apart(a, b, self.expand) for a in way for b in other):
                    raise UsageError(
                        "'oneOf' with alternatives that may overlap cannot be expressed",
                        "use anyOf, or a member with another constant in each alternative",
                    )
        return [branch for way in ways for branch in way]

    def _follow(self, reference: Any) -> Sequence[Branch]:
        if not isinstance(reference, str):
            raise UsageError(f"'$ref' {_shown(reference)} is not a text", "correct it")
        if reference in self._following:
            raise UsageError(f"'$ref' {reference!r} refers to itself", "correct it")
        self._following.append(reference)
        try:
            return self._branches(self._target(reference))
        finally:
            self._following.pop()

    def _target(self, reference: str) -> Any:
        missing = UsageError(f"'$ref' {reference!r} is not in the schema", "put it into '$defs'")
        own = self._root.get("$id", "") if isinstance(self._root, Mapping) else ""
        address, _, fragment = reference.partition("#")
        if address and address != str(own).rstrip("#"):
            raise missing
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            found = _anchored(self._root, fragment)
            if found is None:
                raise missing
            return found
        target = self._root
        for part in fragment.split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            try:
                target = target[int(name) if isinstance(target, list) else name]
            except (KeyError, IndexError, ValueError, TypeError):
                raise missing from None
        return target


def _product(left: Sequence[Branch], right: Sequence[Branch]) -> Sequence[Branch]:
    if len(left) * len(right) > MOST_BRANCHES:
        raise UsageError(
            f"the schema has more than {MOST_BRANCHES} combinations of alternatives",
            "use a simpler schema",
        )
    return [made for a in left for b in right if (made := a & b).possible]


def _anchored(value: Any, name: str) -> Any:
    """Return the schema with an anchor, at whatever depth; None where there is none."""
    left = [value]
    while left:
        found = left.pop()
        if isinstance(found, Mapping):
            if found.get("$anchor") == name or found.get("$id") == f"#{name}":
                return found
            left += found.values()
        elif isinstance(found, list):
            left += found
    return None


def _lacks(name: str) -> Branch:
    """Return the branch of values that have no member of a name."""
    return Branch(members=Members(named={name: (False,)}))


def _closed(branch: Branch, schema: Mapping[str, Any]) -> Branch:
    """Return a branch without what no keyword of its schema has looked at, where that is asked."""
    members, items = branch.members, branch.items
    if schema.get("unevaluatedProperties") is False and members.open:
        members = replace(members, rest=(False,), open=False)
    if schema.get("unevaluatedItems") is False and items.open:
        items = replace(items, rest=(False,), open=False)
    return replace(branch, members=members, items=items)


# -- the keywords of one schema --------------------------------------------------------------


def _own(schema: Mapping[str, Any]) -> Branch:
    """Return the branch of a schema without what it refers to and combines."""
    kinds, whole = _kinds(schema)
    _refuse(schema, kinds)
    values = None
    if "const" in schema:
        values = (schema["const"],)
    if "enum" in schema:
        listed = schema["enum"]
        if not isinstance(listed, list):
            raise _wrong("enum", listed, "a list")
        values = tuple(listed) if values is None else tuple(v for v in listed if same(v, values[0]))
    return Branch(
        kinds,
        whole,
        values,
        _span(schema),
        Texts(
            _size(schema, "minLength", "maxLength"),
            frozenset((_text(schema, "pattern"),) if "pattern" in schema else ()),
            _text(schema, "format"),
        ),
        _items(schema),
        _members(schema),
    )


def _kinds(schema: Mapping[str, Any]) -> tuple[frozenset[str], bool]:
    if "type" not in schema:
        return KINDS, False
    listed = schema["type"]
    names = listed if isinstance(listed, list) else [listed]
    for name in names:
        if not isinstance(name, str) or name not in _TYPES:
            raise _wrong("type", name, f"one of {', '.join(sorted(_TYPES))}")
    return frozenset(_TYPES[name] for name in names), "number" not in names and "integer" in names


def _refuse(schema: Mapping[str, Any], kinds: frozenset[str]) -> None:
    for keyword, kind in _REFUSED.items():
        about = keyword in schema and (not kind or kind in kinds)
        if about and not _asks_nothing(keyword, schema):
            raise UsageError(f"the schema's {keyword!r} cannot be expressed", "leave it out")


def _asks_nothing(keyword: str, schema: Mapping[str, Any]) -> bool:
    value = schema[keyword]
    if keyword == "if":
        return "then" not in schema and "else" not in schema
    if keyword.startswith("unevaluated") and value is False:
        return True  # see ``_closed``
    if keyword == "uniqueItems":
        return value is False or schema.get("maxItems") in (0, 1)
    return keyword not in ("contains", "not") and (value is True or value == {})


def _span(schema: Mapping[str, Any]) -> Span:
    low, high = _number(schema, "minimum"), _number(schema, "maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    # Draft 4 has true and false here.
    span = Span(low, high, above is True and low is not None, below is True and high is not None)
    if above is not None and not isinstance(above, bool):
        span &= Span(low=_number(schema, "exclusiveMinimum"), open_low=True)
    if below is not None and not isinstance(below, bool):
        span &= Span(high=_number(schema, "exclusiveMaximum"), open_high=True)
    step = _number(schema, "multipleOf")
    if step is not None and step <= 0:
        raise _wrong("multipleOf", schema["multipleOf"], "greater than 0")
    return span & Span(step=step)


def _items(schema: Mapping[str, Any]) -> Items:
    size = _size(schema, "minItems", "maxItems")
    items, prefix = schema.get("items"), schema.get("prefixItems")
    if isinstance(items, list):  # before 2020-12
        prefix, items = items, schema.get("additionalItems")
    if prefix is not None and not isinstance(prefix, list):
        raise _wrong("prefixItems", prefix, "a list")
    places = tuple((each,) for each in prefix or ())
    return Items(size, places, () if items is None else (items,), items is None)


def _members(schema: Mapping[str, Any]) -> Members:
    named, required = _mapping(schema, "properties"), schema.get("required", [])
    if isinstance(required, bool):  # draft 3
        required = []
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise _wrong("required", required, "a list of names")
    rest = schema.get("additionalProperties")
    return Members(
        _size(schema, "minProperties", "maxProperties"),
        {name: (inner,) for name, inner in named.items()},
        frozenset(required),
        () if rest is None else (rest,),
        rest is None,
        "properties" in schema,
    )


def _size(schema: Mapping[str, Any], least: str, most: str) -> Size:
    counts = []
    for keyword in (least, most):
        number = _number(schema, keyword)
        if number is not None and (number < 0 or number != number.to_integral()):
            raise _wrong(keyword, schema[keyword], "a whole number")
        counts.append(None if number is None else int(number))
    return Size(counts[0] or 0, counts[1])


def _number(schema: Mapping[str, Any], keyword: str) -> Decimal | None:
    value = schema.get(keyword)
    if value is None or (isinstance(value, bool) and keyword.startswith("exclusive")):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(keyword, value, "a number")
    number = Decimal(repr(value))
    if not number.is_finite():
        raise _wrong(keyword, value, "a number")
    return number


def _text(schema: Mapping[str, Any], keyword: str) -> str:
    value = schema.get(keyword, "")
    if not isinstance(value, str):
        raise _wrong(keyword, value, "a text")
    return value


def _mapping(schema: Mapping[str, Any], keyword: str) -> Mapping[str, Any]:
    value = schema.get(keyword, {})
    if not isinstance(value, Mapping):
        raise _wrong(keyword, value, "an object")
    return value


def _schemas(schema: Mapping[str, Any], keyword: str) -> Sequence[Any]:
    listed = schema.get(keyword, [])
    if not isinstance(listed, list):
        raise _wrong(keyword, listed, "a list")
    return listed


def _wrong(keyword: str, value: Any, expected: str) -> UsageError:
    return UsageError(
        f"the schema's {keyword!r} is {_shown(value)}, not {expected}", "correct the schema"
    )


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."

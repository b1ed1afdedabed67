"""JSON Schema to a grammar: every answer that follows the grammar follows the schema.

Members come in the order in which the schema lists them. An object with ``properties`` has no
others, unless ``additionalProperties`` asks for them; a schema without a ``type`` that rules on one
kind of value gives that kind. Both leave out answers that the schema allows, and admit none that it
does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from pitool.errors import UsageError
from pitool.grammar import numbers, patterns
from pitool.grammar.branches import Branch, Items, Members, Schemas, Texts, allows
from pitool.grammar.keywords import Document
from pitool.grammar.objects import Entry, object_body
from pitool.grammar.rules import Rules, literal, repeated

JSON_OBJECT: dict[str, Any] = {"type": "object"}
_SPACE = r'(" " | "\n" [ \t]{0,16})?'
_HOUR, _MINUTE = "([01][0-9]|2[0-3])", "[0-5][0-9]"
_DATE = (
    "(19|20)[0-9]{2}-"
    "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    "|02-(0[1-9]|1[0-9]|2[0-8]))"
)
_TIME = f"{_HOUR}:{_MINUTE}:{_MINUTE}(Z|[+-]{_HOUR}:{_MINUTE})"
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_LABEL = "[a-z]([a-z0-9-]{0,30}[a-z0-9])?"
FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": "P([1-9][0-9]?D|T[1-9][0-9]?[HMS]|[1-9][0-9]?DT[1-9][0-9]?[HMS])",
    "uuid": "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "ipv4": f"({_BYTE}[.]){{3}}{_BYTE}",
    "ipv6": "([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}",
    "hostname": f"({_LABEL}[.]){{1,3}}{_LABEL}",
    "email": f"[a-z0-9_+-]{{1,30}}([.][a-z0-9_+-]{{1,20}}){{0,2}}@({_LABEL}[.]){{1,3}}{_LABEL}",
    "uri": f"https?://({_LABEL}[.]){{1,3}}{_LABEL}(/[a-zA-Z0-9_.~-]{{1,60}}){{0,8}}/?",
}
"""Texts of the formats that a value can be made for; any other format is a comment."""


def grammar_of_schema(schema: Any) -> str:
    """Return the GBNF whose answers follow a JSON Schema.

    UsageError names what of the schema cannot be expressed, or what is wrong with it.
    """
    rules = Rules()
    return rules.text(schema_rule(rules, schema))


def schema_rule(rules: Rules, schema: Any, name: str = "value") -> str:
    """Return the name of a rule for the values of a schema; UsageError as for a grammar."""
    made = _Converter(rules, Document(schema)).rule((schema,), name)
    if made is None:
        raise _nothing()
    return made


def _nothing() -> UsageError:
    return UsageError("no value follows the schema", "correct the schema")


class _Converter:
    """Makes a rule for each group of schemas that it meets."""

    def __init__(self, rules: Rules, document: Document) -> None:
        self._rules, self._document = rules, document
        self._made: dict[str, str | None] = {}
        self._unfinished: set[str] = set()
        self._referred: set[str] = set()
        self._space = rules.add("space", _SPACE)

    def rule(self, schemas: Schemas, name: str) -> str | None:
        """Return the rule of schemas that hold together, None where no value follows them."""
        key = json.dumps(schemas, sort_keys=True)
        if key in self._unfinished:
            self._referred.add(key)
        elif key not in self._made:
            self._made[key] = made = self._rules.reserve(name)
            self._unfinished.add(key)
            branches = self._document.expand(schemas)
            bodies = [body for branch in branches for body in self._kinds(branch, made)]
            self._unfinished.remove(key)
            if bodies:
                self._rules.define(made, " | ".join(dict.fromkeys(bodies)))
            elif key in self._referred:
                raise _nothing()
            else:
                self._rules.forget(made)
                self._made[key] = None
        return self._made[key]

    def _kinds(self, branch: Branch, name: str) -> Iterable[str]:
        """Yield the expressions of a branch, one for each kind of values."""
        if branch.values is not None:
            for value in branch.values:
                if allows(branch, value, self._document.expand):
                    yield literal(json.dumps(value, ensure_ascii=False))
            return
        for kind in ("object", "array", "string", "number", "boolean", "null"):
            if kind in branch.said and (body := self._kind(kind, branch, name)) is not None:
                yield body

    def _kind(self, kind: str, branch: Branch, name: str) -> str | None:
        if kind == "object":
            return self._object(branch.members, name)
        if kind == "array":
            return self._array(branch.items, name)
        if kind == "string":
            return self._string(branch.texts)
        if kind == "number":
            make = numbers.integer if branch.whole else numbers.number
            return make(self._rules, branch.span)
        return '("true" | "false")' if kind == "boolean" else '"null"'

    # -- texts -------------------------------------------------------------------------------

    def _string(self, texts: Texts) -> str | None:
        if texts.size.empty:
            return None
        inside = self._pattern(texts)
        if inside is None:
            letter = patterns.letters(self._rules)
            inside = repeated(letter, texts.size.least, texts.size.most)
        return f'"\\"" {inside} "\\""'

    def _pattern(self, texts: Texts) -> str | None:
        """Return the expression of a pattern or a known format, None where there is neither."""
        if len(texts.patterns) > 1:
            raise UsageError("two patterns for one text cannot be expressed", "use one")
        for source in texts.patterns:
            part = patterns.pattern(self._rules, source)
            if _fits(part, texts):
                return part.text or '""'
            raise UsageError(
                f"the pattern {source!r} together with these limits of length cannot be expressed",
                "put the length into the pattern",
            )
        if source := FORMATS.get(texts.format, ""):
            part = patterns.pattern(self._rules, f"^({source})$")
            if _fits(part, texts):
                return part.text
        return None

    # -- arrays ------------------------------------------------------------------------------

    def _array(self, items: Items, name: str) -> str | None:
        size = items.size
        if size.empty:
            return None
        places = items.prefix if size.most is None else items.prefix[: size.most]
        inside = self._tail(items, len(places), name)
        for place in range(len(places) - 1, -1, -1):
            item = self.rule(places[place], f"{name}-{place + 1}")
            if item is None or inside is None:
                inside = "" if place >= size.least else None
                continue
            separator = f'"," {self._space} ' if place else ""
            inside = f"{separator}{item} {inside}"
            if place >= size.least:
                inside = f"({inside})?"
        if inside is None:
            return None
        return f'"[" {self._space} {inside} {self._space} "]"'

    def _tail(self, items: Items, before: int, name: str) -> str | None:
        """Return the expression of the items after the prefix, None where there can be none."""
        least = max(items.size.least - before, 0)
        most = None if items.size.most is None else items.size.most - before
        if items.prefix and items.open and not least:
            return ""
        item = None if most == 0 else self.rule(items.rest, f"{name}-item")
        if item is None:
            return None if least else ""
        more = f'("," {self._space} {item})'
        if before:
            return repeated(more, least, most)
        rest = repeated(more, max(least - 1, 0), None if most is None else most - 1)
        return f"{item} {rest}" if least else f"({item} {rest})?"

    # -- objects -----------------------------------------------------------------------------

    def _object(self, members: Members, name: str) -> str | None:
        if members.size.empty:
            return None
        names = [*members.named, *sorted(members.required - set(members.named))]
        entries = [
            Entry(each, self.rule(members.at(each), f"{name}-{each}"), each in members.required)
            for each in names
        ]
        others = None
        if not (members.open and members.listed):
            others = self.rule(members.rest, f"{name}-others")
        return object_body(self._rules, self._space, entries, others, members.size, name)


def _fits(part: patterns.Part, texts: Texts) -> bool:
    """Tell whether all that a pattern matches has an allowed length."""
    size = texts.size
    most = size.most is None or (part.most is not None and part.most <= size.most)
    return most and part.least >= size.least

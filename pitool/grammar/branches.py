"""What values a JSON Schema allows, as alternatives of plain constraints.

A branch is one alternative: kinds of values, and of each kind the constraints. Branches of schemas
that hold together are merged; the schemas of members and items stay as they are until they are
needed, so that a schema may refer to itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from pitool.errors import UsageError
from pitool.grammar.numbers import Span

KINDS = frozenset(("null", "boolean", "number", "string", "array", "object"))
Schemas = tuple[Any, ...]
"""JSON Schemas, all of which a value has to follow; none for any value."""


@dataclass(frozen=True, slots=True)
class Size:
    """Least and most of a length or a count."""

    least: int = 0
    most: int | None = None

    def __and__(self, other: Size) -> Size:
        limits = [limit for limit in (self.most, other.most) if limit is not None]
        return Size(max(self.least, other.least), min(limits, default=None))

    def holds(self, count: int) -> bool:
        """Tell whether a count is within."""
        return count >= self.least and (self.most is None or count <= self.most)

    @property
    def empty(self) -> bool:
        """Whether no count is."""
        return self.most is not None and self.most < self.least


@dataclass(frozen=True, slots=True)
class Texts:
    """Constraints of a string."""

    size: Size = Size()
    patterns: frozenset[str] = frozenset()
    format: str = ""

    def __and__(self, other: Texts) -> Texts:
        return Texts(
            self.size & other.size, self.patterns | other.patterns, self.format or other.format
        )


@dataclass(frozen=True, slots=True)
class Items:
    """Constraints of an array; ``open``: items after the prefix were not ruled on."""

    size: Size = Size()
    prefix: tuple[Schemas, ...] = ()
    rest: Schemas = ()
    open: bool = True

    def at(self, place: int) -> Schemas:
        """Return what the item at a place has to follow."""
        return self.prefix[place] if place < len(self.prefix) else self.rest

    def __and__(self, other: Items) -> Items:
        count = max(len(self.prefix), len(other.prefix))
        prefix = tuple(self.at(i) + other.at(i) for i in range(count))
        rest, open_ = self.rest + other.rest, self.open and other.open
        return Items(self.size & other.size, prefix, rest, open_)


@dataclass(frozen=True, slots=True)
class Members:
    """Constraints of an object.

    ``open``: other members were not ruled on; ``listed``: members were, be it none at all.
    """

    size: Size = Size()
    named: Mapping[str, Schemas] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    rest: Schemas = ()
    open: bool = True
    listed: bool = False

    def at(self, name: str) -> Schemas:
        """Return what the member of a name has to follow."""
        return self.named.get(name, self.rest)

    def __and__(self, other: Members) -> Members:
        names = dict.fromkeys((*self.named, *other.named))
        return Members(
            self.size & other.size,
            {name: self.at(name) + other.at(name) for name in names},
            self.required | other.required,
            self.rest + other.rest,
            self.open and other.open,
            self.listed or other.listed,
        )


@dataclass(frozen=True, slots=True)
class Branch:
    """One alternative; ``whole``: numbers are whole; ``values``: the only ones, None for all."""

    kinds: frozenset[str] = KINDS
    whole: bool = False
    values: tuple[Any, ...] | None = None
    span: Span = field(default_factory=Span)
    texts: Texts = Texts()
    items: Items = Items()
    members: Members = Members()

    def __and__(self, other: Branch) -> Branch:
        return Branch(
            self.kinds & other.kinds,
            self.whole or other.whole,
            _common(self.values, other.values),
            self.span & other.span,
            self.texts & other.texts,
            self.items & other.items,
            self.members & other.members,
        )

    @property
    def possible(self) -> bool:
        """Whether some value may be left, at a first look."""
        return bool(self.kinds) and self.values != ()

    @property
    def said(self) -> frozenset[str]:
        """The kinds that a schema which names none is about: those with constraints, else all."""
        plain = Branch()
        said = {
            "number": self.span != plain.span or self.whole,
            "string": self.texts != plain.texts,
            "array": self.items != plain.items,
            "object": self.members != plain.members,
        }
        about = frozenset(kind for kind, is_said in said.items() if is_said)
        return self.kinds & about if self.kinds == KINDS and about else self.kinds


Expand = Callable[[Schemas], Sequence[Branch]]
"""Returns the branches of schemas that hold together."""


def allows(branch: Branch, value: Any, expand: Expand) -> bool:
    """Tell whether a value follows a branch; UsageError for what is not looked into."""
    kind = kind_of(value)
    if kind not in branch.kinds:
        return False
    if branch.values is not None and not any(same(value, each) for each in branch.values):
        return False
    if kind == "number":
        number = Decimal(repr(value))
        return branch.span.holds(number) and (not branch.whole or number == number.to_integral())
    if kind == "string":
        if branch.texts.patterns:
            raise UsageError("'enum' together with 'pattern' cannot be expressed", "use one")
        return branch.texts.size.holds(len(value))
    if kind == "array":
        return branch.items.size.holds(len(value)) and all(
            any(allows(each, item, expand) for each in expand(branch.items.at(place)))
            for place, item in enumerate(value)
        )
    if kind == "object":
        members = branch.members
        return (
            members.size.holds(len(value))
            and members.required <= set(value)
            and all(
                any(allows(each, inner, expand) for each in expand(members.at(name)))
                for name, inner in value.items()
            )
        )
    return True


def apart(a: Branch, b: Branch, expand: Expand, depth: int = 4) -> bool:
    """Tell whether it is certain that no value follows both branches."""
    for one, other in ((a, b), (b, a)):
        if one.values is not None:
            return not any(
                allows(one, value, expand) and allows(other, value, expand) for value in one.values
            )
    return all(_apart_in(kind, a, b, expand, depth) for kind in a.kinds & b.kinds)


def _apart_in(kind: str, a: Branch, b: Branch, expand: Expand, depth: int) -> bool:
    if kind == "number":
        return a.span.apart(b.span)
    if kind == "string":
        return (a.texts.size & b.texts.size).empty
    if kind == "array":
        return (a.items.size & b.items.size).empty
    if kind != "object" or depth == 0:
        return False
    both = a.members & b.members
    return any(
        all(
            apart(one, other, expand, depth - 1)
            for one in expand(a.members.at(name))
            for other in expand(b.members.at(name))
        )
        for name in both.required
    )


def kind_of(value: Any) -> str:
    """Return the kind of a JSON value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def same(a: Any, b: Any) -> bool:
    """Tell whether two JSON values are equal: 1 is 1.0 and not true."""
    if kind_of(a) != kind_of(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


def _common(a: tuple[Any, ...] | None, b: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    if a is None or b is None:
        return b if a is None else a
    return tuple(value for value in a if any(same(value, each) for each in b))


def of_kind(branch: Branch, *kinds: str) -> Branch:
    """Return a branch with only some kinds."""
    return replace(branch, kinds=branch.kinds & frozenset(kinds))

"""The members of a JSON object, some of which may be left out, as an expression."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pitool.errors import UsageError
from pitool.grammar.branches import Size
from pitool.grammar.patterns import letters, plain_letter
from pitool.grammar.rules import Rules, either, literal, repeated


@dataclass(frozen=True, slots=True)
class Entry:
    """A member; ``rule``: of its values, None where it can have none."""

    name: str
    rule: str | None
    required: bool


def object_body(
    rules: Rules, space: str, entries: Sequence[Entry], others: str | None, size: Size, name: str
) -> str | None:
    """Return the expression of an object with members in their order, None where there is none.

    ``others``: the rule of the values of members with other names, None where there are none.
    """
    made = _Object(rules, space, entries, others, size, name)
    inside = made.from_(0, 0)
    return None if inside is None else f'"{{" {space} {inside}'


class _Object:
    """What may follow after some members were decided on and some of them written.

    How many are counted where a limit asks for it; else only whether there was one, for the comma.
    """

    def __init__(
        self,
        rules: Rules,
        space: str,
        entries: Sequence[Entry],
        others: str | None,
        size: Size,
        name: str,
    ) -> None:
        self._rules, self._space, self._name = rules, space, name
        self._entries, self._size = entries, size
        self._others = None if others is None else f'{self._other_name()} ":" {space} {others}'
        needed = sum(entry.required for entry in entries)
        self._limited = size.least > needed or size.most is not None
        self._counted = len(entries) + 1 if self._limited else 1
        self._known: dict[tuple[int, int], str | None] = {}

    def from_(self, place: int, count: int) -> str | None:
        """Return the expression from a member on, to the closing brace."""
        if place == len(self._entries):
            return self._end(count)
        key = place, min(count, self._counted)
        if key not in self._known:
            ways = self._ways(place, count)
            body = either(ways) if ways else None
            if body is not None and len(body) > len(self._name):
                body = self._rules.add(f"{self._name}-from-{place + 1}", body)
            self._known[key] = body
        return self._known[key]

    def _ways(self, place: int, count: int) -> list[str]:
        entry, ways = self._entries[place], []
        if entry.rule is not None and (self._size.most is None or count < self._size.most):
            after = self.from_(place + 1, count + 1)
            if after is not None:
                comma = f'"," {self._space} ' if count else ""
                key = literal(json.dumps(entry.name, ensure_ascii=False))
                ways.append(f'{comma}{key} ":" {self._space} {entry.rule} {after}')
        if not entry.required:
            after = self.from_(place + 1, count)
            if after is not None:
                ways.append(after)
        return ways

    def _end(self, count: int) -> str | None:
        close = f'{self._space} "}}"'
        missing = max(self._size.least - count, 0) if self._limited else 0
        if self._others is None:
            return None if missing else close
        if missing > 1:
            raise UsageError(
                f"'minProperties' {self._size.least} cannot be expressed,"
                " because names that are not listed might be the same",
                "list the properties",
            )
        most = None if self._size.most is None else self._size.most - count
        if most == 0:
            return close
        more = f'("," {self._space} {self._others})'
        if count:
            return f"{repeated(more, missing, most)} {close}"
        rest = repeated(more, 0, None if most is None else most - 1)
        members = f"{self._others} {rest}"
        return f"{members} {close}" if missing else f"({members})? {close}"

    def _other_name(self) -> str:
        """Return the expression of a name that none of the members has, in its quotes."""
        names = {entry.name for entry in self._entries}
        if not names:
            return f'"\\"" {letters(self._rules)}* "\\""'
        return f'"\\"" {self._unlike("", names)} "\\""'

    def _unlike(self, begun: str, names: set[str]) -> str:
        """Return the expression of how a name goes on so that it is none of some."""
        following = sorted({name[len(begun)] for name in names if len(name) > len(begun)})
        ways = [] if begun in names else ['""']
        ways.append(f"{plain_letter(''.join(following))} {letters(self._rules)}*")
        for letter in following:
            inside = {name for name in names if name.startswith(begun + letter)}
            if letter not in '"\\' and letter.isprintable():
                ways.append(f"{literal(letter)} {self._unlike(begun + letter, inside)}")
        return self._rules.add(f"{self._name}-other-name", either(ways))

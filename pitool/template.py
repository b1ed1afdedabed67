"""Runs a chat template, which is code from a download, within limits of work and time.

Jinja's immutable sandbox keeps a template from the objects of the program, but not from its memory
and its hours: loops within loops, ``'a' * 10**9``, ``center``, lists that hold each other twice. A
template may run where no signal reaches, so that everything is counted beforehand instead: a turn
of a loop, a call, a character or an element that is made cost one unit of work each, and what
multiplies (``_COSTS``) is estimated before it is done. What is left is linear or nearly so in what
was paid for, and the clock is read with every payment.

The dialect is that of transformers (``_compile_jinja_template`` in ``utils/chat_template_utils``).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from functools import wraps
from types import MappingProxyType
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.ext import Extension, loopcontrols
from jinja2.meta import find_undeclared_variables
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

SOURCE_CHARACTERS = 1 << 17
"""The longest templates that are published have some 20,000."""
LEAST_WORK = 1_000_000
WORK_PER_CHARACTER = 64
"""Of the conversation: a template reads and writes a message a few times."""
SECONDS = 20.0
_REASON_CHARACTERS = 200

_STEP, _PAID = " a turn of a loop ", " a value that is paid for "
"""Filters that no template can name."""


class TemplateFault(Exception):  # noqa: N818 - the name reads as the verdict
    """What is wrong with a template, in a few words."""


class _TooMuch(Exception):  # noqa: N818
    """The work or the time is used up."""


class Template:
    """A compiled template; ``helpers``: functions that it may call.

    ``names``: what it reads of the values that it is rendered with. One rendering at a time.
    TemplateFault when it is not one.
    """

    def __init__(
        self, source: str, helpers: Mapping[str, Callable[..., Any]] = MappingProxyType({})
    ) -> None:
        if len(source) > SOURCE_CHARACTERS:
            raise TemplateFault(f"it is longer than {SOURCE_CHARACTERS} characters")
        self._environment = _Environment()
        self._environment.globals.update(helpers)
        self._environment.grant(LEAST_WORK)
        try:
            tree = self._environment.parse(source)
            self.names = frozenset(find_undeclared_variables(tree))
            self._template = self._environment.from_string(tree)
        except Exception as error:  # of Jinja's parser, of Python's compiler, of what is constant
            raise _fault(error) from None

    def render(self, **values: Any) -> str:
        """Return the text; TemplateFault whatever the template raises, or where it has no end."""
        self._environment.grant(LEAST_WORK + WORK_PER_CHARACTER * _weight(values, text=True))
        try:
            return self._template.render(**values)
        except Exception as error:
            raise _fault(error) from None


def _fault(error: Exception) -> TemplateFault:
    if isinstance(error, RecursionError):
        return TemplateFault("it is nested too deeply, or calls itself without an end")
    words = " ".join(str(error).split())[:_REASON_CHARACTERS]
    return TemplateFault(words or type(error).__name__)


# -- what things cost ----------------------------------------------------------------------


def _weight(value: object, *, text: bool = False, most: float = float("inf")) -> int:
    """Return the elements of a value with all that is in it, counted as often as they are in it.

    ``text``: as many as it has characters when it is written. Stops soon after ``most``.
    """
    total, left = 0, [value]
    while left and total <= most:
        found = left.pop()
        total += 1
        if isinstance(found, (str, bytes)):
            total += len(found) if text else 0
        elif isinstance(found, int):
            total += found.bit_length() // 3
        elif isinstance(found, (list, tuple, set, frozenset)):
            left += found
        elif isinstance(found, dict):
            left += (*found.keys(), *found.values())
        elif isinstance(found, range):
            total += len(found)
        elif isinstance(found, Namespace):
            left.append(object.__getattribute__(found, "_Namespace__attrs"))
        elif isinstance(found, (KeysView, ValuesView, ItemsView)):
            left += found
    return total


def _factor(value: object) -> int:
    """Return by how much a value may multiply another: a length, or a number as it is."""
    if isinstance(value, str | bytes | range):
        return len(value)
    if isinstance(value, int):
        return abs(value)
    return _weight(value, text=True) if isinstance(value, Mapping | list) else 1


def _times(value: Any, *by: Any) -> int:
    return (1 + _factor(value)) * (1 + max(map(_factor, by), default=0))


def _pads(value: Any, *by: Any) -> int:
    return _factor(value) + max(map(_factor, by), default=0)


def _replaces(value: Any, old: Any = "", new: Any = "", *_: Any) -> int:
    if not isinstance(value, str):
        return _weight(value, text=True) * (1 + _factor(new))
    times: int = value.count(str(old))
    return len(value) + times * _factor(new)


def _joins(value: Any, separator: Any = "", *_: Any) -> int:
    count: int = len(value)
    return count * _factor(separator) + _weight(value, text=True)


def _formats(form: Any, *values: Any) -> int:
    """Return a bound for ``%`` and ``format``: each field may take every value at its width."""
    text = str(form)
    widths = [int(number[:10]) for number in re.findall(r"\d+", text)]
    nested = "*" in text or re.search(r"\{[^}]*\{", text)
    longest = sum(_weight(value, text=True) for value in values)
    longest += max(widths, default=0)
    if nested:  # a width is one of the values
        longest += max(map(_factor, values), default=0)
    return len(text) + (text.count("%") + text.count("{")) * longest


def _squares(value: Any, *by: Any) -> int:
    return _times(value, *by) + _factor(value) ** 2 // 64


_COSTS: dict[str, Callable[..., int]] = {
    "center": _pads, "ljust": _pads, "rjust": _pads, "zfill": _pads, "round": _pads,
    "to_bytes": _pads, "truncate": _pads,
    "batch": _times, "slice": _times, "indent": _times, "expandtabs": _times, "translate": _times,
    "replace": _replaces, "format": _formats, "format_map": _formats,
    "striptags": _squares, "urlize": _squares, "wordwrap": _squares, "sum": _squares,
}  # fmt: skip
"""Filters and methods whose result can be far larger than what they are given, or that take far
longer, and an estimate: of the value and the arguments."""

# Filters that pass their elements on; all others write them out.
_STRUCTURAL = frozenset(
    (
        "attr", "batch", "count", "d", "default", "dictsort", "first", "groupby", "items", "join",
        "last", "length", "list", "map", "max", "min", "random", "reject", "rejectattr", "reverse",
        "select", "selectattr", "slice", "sort", "sum", "unique",
    )
)  # fmt: skip


def _operation(operator: str, left: Any, right: Any) -> int:
    """Return what an operation costs at most."""
    if isinstance(left, int) and isinstance(right, int):
        sizes = left.bit_length() // 64 + 1, right.bit_length() // 64 + 1
        if operator == "**":
            bits: int = left.bit_length() * abs(right)
            return (bits // 64 + 1) ** 2
        return sizes[0] * sizes[1]
    if operator == "*":
        parts = [v if isinstance(v, int) else _weight(v, text=True) for v in (left, right)]
        return abs(parts[0] * parts[1])
    if operator == "%" and isinstance(left, str | bytes):
        return _formats(left, *(right if isinstance(right, tuple) else (right,)))
    return 1


# -- Jinja, with a meter ------------------------------------------------------------------


class _GenerationBlock(Extension):
    """``{% generation %}`` marks text for training; when chatting it is just its content."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's interface

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the nodes between the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Meter(NodeTransformer):
    """Has every turn of a loop counted, and what no other hook of the sandbox sees being made."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - Jinja's interface
        """Count a turn, and one that the loop's condition leaves out."""
        self.generic_visit(node)
        step = _filter(nodes.Const(True), _STEP, node)
        node.body.insert(0, nodes.ExprStmt(step, lineno=node.lineno))
        if node.test is not None:
            node.test = nodes.And(step, node.test, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        """Have each part of a ``~`` paid for."""
        self.generic_visit(node)
        node.nodes = [_filter(part, _PAID, part) for part in node.nodes]
        return node

    def _made(self, node: Any) -> nodes.Node:
        self.generic_visit(node)
        return node if getattr(node, "ctx", "load") != "load" else _filter(node, _PAID, node)

    visit_List = visit_Dict = visit_Tuple = _made  # noqa: N815


def _filter(node: nodes.Expr, name: str, where: nodes.Node) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=where.lineno)


class _Environment(ImmutableSandboxedEnvironment):
    """Counts what a template does, and ends it by ``_TooMuch``."""

    intercepted_binops = frozenset(("+", "*", "**", "%", "//", "/"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols, _GenerationBlock],
            optimized=False,  # what is constant is calculated while it is counted
            finalize=pass_context(lambda _context, value: self._pay_text(value)),
        )
        self.grant(LEAST_WORK)
        del self.globals["lipsum"]
        self.filters["tojson"] = self._to_json
        tables: tuple[dict[str, Any], dict[str, Any]] = (self.filters, self.tests)
        for table in tables:
            table.update({name: self._metered(name, each) for name, each in table.items()})
        self.filters.update({_PAID: self._pay_text, _STEP: self._pay_step})

    def grant(self, work: int) -> None:
        """Begin to count."""
        self._left, self._given, self._end = work, work, time.monotonic() + SECONDS

    def pay(self, work: int) -> None:
        """Count some work that is to be done."""
        self._left -= work
        if self._left < 0:
            raise _TooMuch(f"it takes more than {self._given:,} steps and characters")
        if time.monotonic() > self._end:
            raise _TooMuch(f"it takes more than {SECONDS:g} seconds")

    def _pay_step(self, value: Any) -> Any:
        self.pay(1)
        return value

    def _pay_text(self, value: Any) -> Any:
        self.pay(_weight(value, text=True, most=self._left))
        return value

    def _pay_result(self, value: Any) -> Any:
        self.pay(_weight(value, text=isinstance(value, str | bytes), most=self._left))
        return value

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        metered: nodes.Template = _Meter().visit(super()._parse(source, name, filename))
        return metered.set_environment(self)  # type: ignore[return-value]

    def _metered(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a filter or test that is paid for."""
        own = 1 if hasattr(function, "jinja_pass_arg") else 0  # Jinja hands over its context

        @wraps(function)
        def metered(*arguments: Any, **options: Any) -> Any:
            value, *by = arguments[own:]
            if name in ("join", "sum") and isinstance(value, Iterator):
                value = list(value)
                arguments = (*arguments[:own], value, *by)
            self._pay_before(name, value, [*by, *options.values()])
            return self._pay_result(function(*arguments, **options))

        return metered

    def _pay_before(self, name: str, value: Any, by: Sequence[Any]) -> None:
        if name in self.filters and name not in _STRUCTURAL:
            self._pay_text([value, *by])
        elif hasattr(value, "__len__"):
            self.pay(len(value))
        if name == "join":
            self.pay(_joins(value, *by) if hasattr(value, "__len__") else 1)
        elif name in _COSTS:
            self.pay(_COSTS[name](value, *by))
        self.pay(1)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Call something of a template; the names are Jinja's, out of the way of keywords."""
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str | bytes | int):
            if __obj.__name__ == "join" and args and isinstance(args[0], Iterator):
                args = (list(args[0]), *args[1:])
            __self._pay_method(owner, __obj.__name__, [*args, *kwargs.values()])
        __self.pay(1)
        return __self._pay_result(super().call(__context, __obj, *args, **kwargs))

    def _pay_method(self, owner: str | bytes | int, name: str, by: Sequence[Any]) -> None:
        self.pay(_factor(owner) if not isinstance(owner, int) else 1)
        if name == "join" and by:
            self.pay(_joins(by[0], owner) if hasattr(by[0], "__len__") else 1)
        elif name in _COSTS:
            self.pay(_COSTS[name](owner, *by))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Return what formats in place of ``str.format``, None for anything else."""
        inner = super().wrap_str_format(value)
        if inner is None:
            return None

        def formatted(*arguments: Any, **options: Any) -> str:
            self.pay(_formats(value.__self__, *arguments, *options.values()))
            return inner(*arguments, **options)

        return formatted

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Calculate."""
        self.pay(_operation(operator, left, right))
        return self._pay_result(super().call_binop(context, operator, left, right))

    def _to_json(
        self,
        value: Any,
        ensure_ascii: bool = False,
        indent: int | str | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """Return JSON as transformers does: Jinja's own escapes for HTML."""
        self.pay(_times(value, indent or 0))
        encoder = json.JSONEncoder(
            ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )
        return "".join(self._pay_text(piece) for piece in encoder.iterencode(value))

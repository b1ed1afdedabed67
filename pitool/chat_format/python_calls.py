"""Tool calls as Python writes them: ``[weather(city="Köln", days=3)]``. Nothing is ever run."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from pitool.catalog import reading
from pitool.chat_format.reader import malformed

LONGEST = 1 << 16
_NAMES = {"true": True, "false": False, "null": None}


Parameters = Mapping[str, Mapping[str, Any]]
Call = tuple[str, dict[str, Any]]


def read(text: str, parameters: Parameters) -> list[Call]:
    """Return names and arguments; ``parameters`` name those that come without a name.

    Also of a list of JSON objects with name and arguments. MalformedError for anything else.
    """
    text = text.strip()
    return list(_objects(text)) or list(_calls(text, parameters))


def literal(text: str) -> Any:
    """Return the value of a literal of Python's; MalformedError for anything else."""
    return _value(_expression(text))


def _expression(text: str) -> ast.expr:
    if len(text) > LONGEST:
        raise malformed("an end")
    try:
        with warnings.catch_warnings(action="ignore"):  # of Python's about escapes
            return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise malformed("a call") from None


def _objects(text: str) -> Iterator[Call]:
    try:
        found = reading.parse_json(text)
    except ValueError:
        return
    for each in found if isinstance(found, list) else [found]:
        name = each.get("name") if isinstance(each, dict) else None
        arguments = each.get("arguments", each.get("parameters", {})) if name else None
        if not isinstance(name, str) or not isinstance(arguments, dict):
            raise malformed("a name")
        yield name, arguments


def _calls(text: str, parameters: Parameters) -> Iterator[Call]:
    body = _expression(text)
    nodes = body.elts if isinstance(body, ast.List | ast.Tuple) else [body]
    if not nodes:
        raise malformed("a call")
    for node in nodes:
        if not isinstance(node, ast.Call):
            raise malformed("a call")
        name = ast.unparse(node.func)
        names = [*parameters.get(name, {})]
        if len(node.args) > len(names) or any(each.arg is None for each in node.keywords):
            raise malformed("a name of an argument")
        made = {key: _value(each) for key, each in zip(names, node.args, strict=False)}
        yield name, made | {str(each.arg): _value(each.value) for each in node.keywords}


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id in _NAMES:
        return _NAMES[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(each) for each in node.elts]
    if isinstance(node, ast.Dict):
        return {str(_value(_key(key))): _value(each) for key, each in _pairs(node)}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _value(node.operand)
        if isinstance(number, int | float):
            return -number
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | None):
        return node.value
    raise malformed("a value")


def _pairs(node: ast.Dict) -> Iterator[tuple[ast.expr | None, ast.expr]]:
    return zip(node.keys, node.values, strict=True)


def _key(key: ast.expr | None) -> ast.expr:
    if key is None:  # ``**``
        raise malformed("a key")
    return key

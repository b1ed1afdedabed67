"""Grammars that force an answer to be what its reader will find: a call, or a value of a schema.

A model that thinks may do so first; what it thinks is free.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pitool.chat_format.formats import calls_of, thinking_of
from pitool.errors import UsageError
from pitool.grammar import JSON_OBJECT, Rules, schema_rule
from pitool.grammar.rules import either, literal, without

_SPACE = r"[ \t\n]{0,4}"


class Forced(NamedTuple):
    """A grammar and the words that begin it, for ``Sampling``."""

    grammar: str
    triggers: tuple[str, ...] = ()


def forced_answer(chat_format: str, schema: Any, *, before: str = "") -> Forced:
    """Return the grammar of an answer that is a value of a JSON Schema; UsageError as there.

    ``before``: how the prompt ends, which may have begun the reasoning.
    """
    rules = Rules()
    return Forced(rules.text(_thought(rules, chat_format, before, schema_rule(rules, schema))))


def forced_calls(
    chat_format: str,
    tools: Sequence[Mapping[str, Any]],
    *,
    before: str = "",
    name: str = "",
    free: bool = False,
    parallel: bool = True,
) -> Forced:
    """Return the grammar of an answer that calls one of some tools.

    ``tools`` as OpenAI's interface has them; ``name``: the one that is to be called, any where it
    is empty; ``free``: the answer may be a text, and the grammar begins with a call; ``parallel``:
    there may be several. A schema that cannot be expressed is refused where its tool is ``strict``,
    else its arguments may be any object.
    """
    functions = [tool.get("function", tool) for tool in tools]
    chosen = [f for f in functions if not name or f.get("name") == name]
    if not chosen:
        raise UsageError(f"the tool {name!r} is not among the tools", "name one of them")
    rules = Rules()
    style = _STYLES.get(chat_format.partition("/")[0], _STYLES["hermes"])
    calls = either(style.call(rules, _Function.of(rules, each)) for each in chosen)
    calls = rules.add("call", calls)
    between = f"{style.between} {calls}" if style.between else calls
    answer = f"{style.open} {calls}"
    if parallel and style.several:
        answer += f" ({between})*"
    answer += f" {style.close}"
    if free:
        marks = tuple(calls_of(chat_format).readers)
        return Forced(rules.text(answer), (marks[0],))
    return Forced(rules.text(_thought(rules, chat_format, before, answer)))


def _thought(rules: Rules, chat_format: str, before: str, answer: str) -> str:
    """Return an answer with what the model may think before it."""
    marks = thinking_of(chat_format)
    if marks is None:
        return answer
    inside = f"{without(rules, marks.close, 'thought')} {literal(marks.close)} {_SPACE}"
    if before.rstrip().endswith(marks.open):
        return f"{inside} {answer}"
    return f"({literal(marks.open)} {inside})? {answer}"


@dataclass(frozen=True, slots=True)
class _Function:
    """A tool: its name, the rule of its arguments, and the schema of each of its parameters."""

    name: str
    arguments: str
    parameters: Mapping[str, Any]
    required: frozenset[str]
    root: Mapping[str, Any]
    strict: bool

    @classmethod
    def of(cls, rules: Rules, function: Mapping[str, Any]) -> _Function:
        schema = function.get("parameters") or JSON_OBJECT
        name = str(function.get("name", ""))
        try:
            rule = schema_rule(rules, {"type": "object", **schema}, f"{name}-arguments")
        except UsageError:
            if function.get("strict") is True:
                raise
            schema = JSON_OBJECT
            rule = schema_rule(rules, schema, f"{name}-arguments")
        named = schema.get("properties") or {}
        required, strict = frozenset(schema.get("required") or ()), function.get("strict") is True
        return cls(name, rule, named, required, schema, strict)

    def rule_of(self, rules: Rules, parameter: str) -> str:
        """Return the rule of one parameter's values, which may refer to the whole schema."""
        definitions = {key: self.root[key] for key in ("$defs", "definitions") if key in self.root}
        schema = self.parameters[parameter]
        if isinstance(schema, Mapping):
            schema = {**definitions, **schema}
        return schema_rule(rules, schema, f"{self.name}-{parameter}")


Call = Callable[[Rules, _Function], str]


@dataclass(frozen=True, slots=True)
class _Style:
    """How calls are written: ``call`` gives the expression of one.

    ``open`` and ``close`` are around all of them, ``between`` is between two; ``several``: there
    may be more than one.
    """

    call: Call
    open: str = ""
    close: str = ""
    between: str = ""
    several: bool = True


def _json(arguments: str = "arguments") -> Call:
    def call(_: Rules, function: _Function) -> str:
        name = literal(json.dumps(function.name, ensure_ascii=False))
        key = literal(f'"{arguments}"')
        space = '" "?'
        head = f'"{{" {space} "\\"name\\"" {space} ":" {space} {name} {space} "," {space}'
        return f'{head} {key} {space} ":" {space} {function.arguments} {space} "}}"'

    return call


def _marked(open_: str, inner: Call, close: str) -> Call:
    def call(rules: Rules, function: _Function) -> str:
        end = f"{_SPACE} {literal(close)}" if close else ""
        return f"{literal(open_)} {_SPACE} {inner(rules, function)} {end}"

    return call


def _tagged(head: str, parameter: tuple[str, str, str], end: str) -> Call:
    """Return Qwen's function in tags; ``parameter``: before its name, after it, after its value."""

    def call(rules: Rules, function: _Function) -> str:
        before, after, close = parameter
        parts = []
        for name in function.parameters:
            value = _listed(function, name, "") or _bare_text(rules, function, name, close)
            part = f"{literal(before + name + after)} {value} {literal(close)}"
            parts.append(part if name in function.required else f"({part})?")
        return f"{literal(head.format(function.name))} {' '.join(parts)} {literal(end)}"

    return call


def _listed(function: _Function, name: str, quote: str) -> str:
    """Return the expression of a parameter whose values are some texts, nothing of another."""
    schema = function.parameters[name]
    if not isinstance(schema, Mapping):
        return ""
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        return ""
    return either(literal(quote + each + quote) for each in listed)


_LIMITS = ("pattern", "minLength", "maxLength")


def _bare_text(rules: Rules, function: _Function, name: str, close: str) -> str:
    """Return the expression of a value between tags: a text as it is, anything else as JSON."""
    schema = function.parameters[name]
    if not isinstance(schema, Mapping) or schema.get("type") != "string":
        return function.rule_of(rules, name)
    if function.strict and (limit := next((key for key in _LIMITS if key in schema), "")):
        raise UsageError(
            f"{limit!r} of {name!r} cannot be expressed in this model's format of calls",
            "leave it out, or do without 'strict'",
        )
    return without(rules, close, "text")


def _named_arguments(_: Rules, function: _Function) -> str:
    return f"{literal(function.name + '[ARGS]')} {function.arguments}"


def _python(rules: Rules, function: _Function) -> str:
    """Return a call with keywords, required ones first; JSON's values are read as Python's."""
    names = sorted(function.parameters, key=lambda name: name not in function.required)
    needed = [name for name in names if name in function.required]
    written = ""
    for place, name in reversed(list(enumerate(names))):
        comma = '", "' if place else ""
        part = f"{comma} {literal(name + '=')} {function.rule_of(rules, name)}"
        if name in function.required:
            written = f"{part} {written}"
        elif place or not needed:
            written = f"({part} {written})?"
    return f'{literal(function.name + "(")} {written} ")"'


def _gemma(quote: str) -> Call:
    """Return Gemma's call; texts stand between ``quote``."""

    def call(rules: Rules, function: _Function) -> str:
        names = sorted(function.parameters, key=lambda name: name not in function.required)
        written = ""
        for place, name in reversed(list(enumerate(names))):
            comma = '","' if place else ""
            value = _gemma_value(rules, function, name, quote)
            part = f"{comma} {literal(name + ':')} {value} {written}"
            written = part if name in function.required else f"({part})?"
        return f'{literal(f"call:{function.name}{{")} {written} "}}"'

    return call


def _gemma_value(rules: Rules, function: _Function, name: str, quote: str) -> str:
    """Return the expression of a value: a text between quotes, anything else as JSON."""
    if listed := _listed(function, name, quote):
        return listed
    schema = function.parameters[name]
    free = isinstance(schema, Mapping) and schema.get("type") == "string"
    if free and not any(key in schema for key in _LIMITS):
        return f"{literal(quote)} {without(rules, quote, 'text')} {literal(quote)}"
    return function.rule_of(rules, name)


_QWEN = _tagged("<function={}>\n", ("<parameter=", ">\n", "\n</parameter>\n"), "</function>")
_STYLES = {
    "hermes": _Style(_marked("<tool_call>", _json(), "</tool_call>"), between=_SPACE),
    "qwen": _Style(_marked("<tool_call>", _QWEN, "</tool_call>"), between=_SPACE),
    "seed": _Style(_marked("<seed:tool_call>", _QWEN, "</seed:tool_call>"), between=_SPACE),
    "minicpm": _Style(
        _tagged('<function name="{}">', ('<param name="', '">', "</param>"), "</function>"),
        between=_SPACE,
    ),
    "llama": _Style(_json("parameters"), several=False),
    "mistral": _Style(_marked("[TOOL_CALLS]", _named_arguments, "")),
    "mistral list": _Style(_json(), '"[TOOL_CALLS]" " "? "["', '"]"', '", "'),
    "lfm2": _Style(_python, '"<|tool_call_start|>["', '"]<|tool_call_end|>"', '", "'),
    "granite": _Style(_json(), '"<|tool_call|>" " "? "["', '"]"', '", "'),
    "phi": _Style(_json(), '"<|tool_call|>["', '"]<|/tool_call|>"', '", "'),
    "gemma3": _Style(_python, '"```tool_code\\n["', '"]\\n```"', '", "'),
    "functiongemma": _Style(
        _marked("<start_function_call>", _gemma("<escape>"), "<end_function_call>")
    ),
    "gemma4": _Style(_marked("<|tool_call>", _gemma('<|"|>'), "<tool_call|>")),
}

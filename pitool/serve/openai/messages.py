"""The turns of a conversation and its tools, from OpenAI's JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pitool.catalog.tables import nearest
from pitool.engine.base import Message, ToolCall
from pitool.errors import UsageError
from pitool.serve.bodies import Fields
from pitool.serve.conversations import Choice, Use

ROLES = ("system", "developer", "user", "assistant", "tool")
TEXT_PARTS = ("text", "input_text", "output_text")
MOST_TOOLS = 128


def messages(fields: Fields) -> tuple[Message, ...]:
    """Return the turns of a conversation, at least one."""
    turns = fields.take("messages")
    if not isinstance(turns, list) or not turns:
        raise UsageError("'messages' is not a list of messages", "send at least one message")
    return tuple(_message(turn, i) for i, turn in enumerate(turns))


def _message(turn: object, i: int) -> Message:
    where = f"message {i}"
    fields = Fields(turn, where)
    role = fields.take("role")
    if role not in ROLES:
        raise UsageError(f"the role of {where} is not supported", f"use one of: {', '.join(ROLES)}")
    content = text_of(fields.take("content"), where)
    reasoning = [fields.text(name) for name in ("reasoning_content", "reasoning", "thinking")]
    calls = tuple(_call(each, where) for each in fields.list("tool_calls") or [])
    message = Message(
        "system" if role == "developer" else role,
        content,
        calls,
        fields.text("tool_call_id") or "",
        fields.text("name") or "",
        next(filter(None, reasoning), ""),
    )
    fields.ignore("refusal", "annotations", "id", "status")
    fields.plain({"audio": (), "function_call": ()})
    fields.done()
    if calls and role != "assistant":
        raise UsageError(f"{where} has tool calls", "only an assistant's message may have them")
    return message


def text_of(content: object, where: str) -> str:
    """Return a message's text: of a string, or of parts that are text; nothing of null."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    texts = [_part(part) for part in (content if isinstance(content, list) else [None])]
    if not all(text is not None for text in texts):
        raise UsageError(f"{where} has more than text", "send only text")
    return "".join(text for text in texts if text)


def _part(part: object) -> str | None:
    if not isinstance(part, Mapping):
        return part if isinstance(part, str) else None
    kind = part.get("type")
    text = part.get("text") if kind in TEXT_PARTS else part.get(kind) if kind == "refusal" else None
    return text if isinstance(text, str) else None


def _call(value: object, where: str) -> ToolCall:
    fields = Fields(value, f"a tool call of {where}")
    function = fields.fields("function")
    if function is None:
        raise UsageError(f"a tool call of {where} has no function", "send its name and arguments")
    return ToolCall(
        fields.text("id") or "",
        function.text("name") or "",
        function.text("arguments") or "{}",
    )


def tools(fields: Fields) -> tuple[Mapping[str, Any], ...]:
    """Return the functions that the model may call, each as OpenAI's interface has it."""
    found = fields.list("tools") or []
    if len(found) > MOST_TOOLS:
        raise UsageError(f"there are {len(found)} tools", f"send at most {MOST_TOOLS}")
    return tuple(_tool(each, i) for i, each in enumerate(found))


def _tool(value: object, i: int) -> Mapping[str, Any]:
    fields = Fields(value, f"tool {i}")
    if (kind := fields.take("type")) not in (None, "function"):
        raise UsageError(f"tool {i} is of type {kind!r}", "send tools of type 'function'")
    function = fields.fields("function")
    if function is None:
        raise UsageError(f"tool {i} has no function", "send its name and parameters")
    return function_tool(function, i)


def function_tool(function: Fields, i: int) -> Mapping[str, Any]:
    """Return a tool of its name, description and parameters."""
    name = function.text("name")
    if not name:
        raise UsageError(f"tool {i} has no name", "send the name of a function")
    parameters = function.take("parameters")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise UsageError(f"the parameters of tool {i} are not a JSON Schema", "send an object")
    made: dict[str, Any] = {"name": name, "description": function.text("description") or ""}
    made["parameters"] = parameters or {"type": "object", "properties": {}}
    if function.flag("strict"):
        made["strict"] = True
    function.done()
    return {"type": "function", "function": made}


def tool_choice(value: object, known: Sequence[Mapping[str, Any]]) -> Choice:
    """Return whether tools are to be called."""
    if value is None or value == "auto":
        return Choice()
    if value == "none":
        return Choice(Use.NONE)
    name = None if value == "required" else _named(value)
    if not known:
        raise UsageError("'tool_choice' needs 'tools'", "send the tools as well")
    names = [tool["function"]["name"] for tool in known]
    if name is not None and name not in names:
        raise UsageError(f"'tool_choice' names {name!r}", nearest(name, names))
    return Choice(Use.REQUIRED, name)


def _named(value: object) -> str:
    """Return the name in ``{"type": "function", "function": {"name": NAME}}``, or without depth."""
    if isinstance(value, Mapping) and value.get("type") == "function":
        inner = value.get("function", value)
        name = inner.get("name") if isinstance(inner, Mapping) else None
        if isinstance(name, str):
            return name
    raise UsageError("'tool_choice' is not valid", "send none, auto, required or a function's name")

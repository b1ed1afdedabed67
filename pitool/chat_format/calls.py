"""Tool calls in the ways in which models write them, from the mark that opens them on.

Each reader yields the events of what follows a mark, and raises ``MalformedError`` where that is no
call: then nothing was let go of that is not in an event.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from pitool.chat_format import python_calls, tagged_values
from pitool.chat_format.events import CallArguments, CallBegun, CallEnded, Event, new_id
from pitool.chat_format.reader import LONGEST_WORD, MalformedError, Reader, Steps, malformed, parse

_ARGUMENTS = ("arguments", "parameters")


@dataclass(slots=True)
class Calls:
    """The calls of one answer; ``parameters``: by tool the JSON Schema of each of its parameters.

    ``next_id`` makes ids.
    """

    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    next_id: Callable[[], str] = new_id
    count: int = 0
    running: bool = False

    def begin(self, name: str, number: str = "") -> Event:
        """Return the event of a call that begins."""
        self.count, self.running = self.count + 1, True
        return CallBegun(self.count - 1, number or self.next_id(), name)

    def arguments(self, text: str) -> Event:
        """Return the event of a piece of its arguments."""
        return CallArguments(self.count - 1, text)

    def end(self) -> Event:
        """Return the event of its end."""
        self.running = False
        return CallEnded(self.count - 1)

    def whole(self, reader: Reader, name: str, arguments: Mapping[str, Any]) -> Steps[None]:
        """Yield a call that was read as a whole."""
        yield self.begin(name)
        yield self.arguments(json.dumps(arguments, ensure_ascii=False))
        yield self.end()
        reader.release()


Read = Callable[[Reader, Calls], Steps[None]]
"""Reads what follows a mark."""


# -- JSON ----------------------------------------------------------------------------------


def json_calls(close: str = "") -> Read:
    """Return a reader of an object with name and arguments, or of a list of them.

    ``close``: the mark that ends them, which may be missing.
    """

    def read(reader: Reader, calls: Calls) -> Steps[None]:
        first = yield from reader.skip_space()
        if first == "<":  # Qwen's models mix their two formats up
            yield from function("<function=")(reader, calls)
        elif first == "[":
            yield from _list(reader, calls)
        else:
            yield from json_call(reader, calls)
        yield from _close(reader, close)

    return read


def _close(reader: Reader, close: str) -> Steps[None]:
    if close:
        start = reader.at
        yield from reader.skip_space()
        if not (yield from reader.take(close)):
            reader.at = start
    reader.release()


def _list(reader: Reader, calls: Calls) -> Steps[None]:
    yield from reader.expect("[")
    while (yield from reader.skip_space()) == "{":
        yield from json_call(reader, calls)
        yield from reader.skip_space()
        if not (yield from reader.take(",")):
            break
    yield from reader.expect("]")


def json_call(reader: Reader, calls: Calls, known: Container[str] | None = None) -> Steps[None]:
    """Read one object; ``known``: the names that a call may have, any where it is None."""
    name = number = ""
    begun, arguments = False, "{}"
    yield from reader.expect("{")
    while (yield from reader.skip_space()) != "}":
        key = yield from reader.string()
        yield from reader.expect(":")
        first = yield from reader.skip_space()
        if key in ("name", "function") and not name:
            name = yield from reader.string()
            if known is not None and name not in known:
                raise malformed("a known name")
        elif key in _ARGUMENTS and name and not begun and first == "{":
            begun = True
            yield calls.begin(name, number)
            yield from reader.stream_object(calls.arguments)
        elif key in _ARGUMENTS:
            arguments = _object((yield from reader.value()))
        else:
            value = parse((yield from reader.value()))
            number = value if key == "id" and isinstance(value, str) else number
        yield from reader.skip_space()
        if not (yield from reader.take(",")):
            break
    yield from reader.expect("}")
    if not name:
        raise malformed("a name")
    if not begun:
        yield calls.begin(name, number)
        yield calls.arguments(arguments)
    yield calls.end()
    reader.release()


def _object(text: str) -> str:
    """Return arguments that came before the name, as text of JSON, or as null."""
    value = parse(text)
    if isinstance(value, str):
        text, value = value, parse(value or "{}")
    if value is not None and not isinstance(value, dict):
        raise malformed("an object")
    return text if value else "{}"


def named_json(reader: Reader, calls: Calls) -> Steps[None]:
    """Read Mistral's: a list of objects, or a name, perhaps an id, and the arguments."""
    if (yield from reader.skip_space()) == "[":
        yield from json_calls()(reader, calls)
        return
    name, word = yield from reader.until(("[CALL_ID]", "[ARGS]", "{"), LONGEST_WORD)
    number = ""
    if word == "[CALL_ID]":
        number, word = yield from reader.until(("[ARGS]", "{"), LONGEST_WORD)
    if word == "{":
        reader.at -= 1
    if not word or not _is_name(name.strip()) or (yield from reader.skip_space()) != "{":
        raise malformed("{")
    yield calls.begin(name.strip(), number.strip())
    yield from reader.stream_object(calls.arguments)
    yield calls.end()


def python_tag(reader: Reader, calls: Calls) -> Steps[None]:
    """Read Llama's: objects one after the other, or a call as Python writes it."""
    if (yield from reader.skip_space()) != "{":
        text, _ = yield from reader.until(())
        for name, arguments in python_calls.read(text, calls.parameters):
            yield from calls.whole(reader, name.removesuffix(".call"), arguments)
        return
    while (yield from reader.skip_space()) == "{":
        yield from json_call(reader, calls)
        yield from reader.skip_space()
        yield from reader.take(";")
    reader.release()


# -- other ways ------------------------------------------------------------------------------


def python_list(close: str) -> Read:
    """Return a reader of a list of Python's calls: ``[name(key=value), ...]``, or of objects."""

    def read(reader: Reader, calls: Calls) -> Steps[None]:
        text, _ = yield from reader.until((close,))
        for name, arguments in python_calls.read(text, calls.parameters):
            yield from calls.whole(reader, name, arguments)

    return read


def tagged_call(close: str, quote: str) -> Read:
    """Return a reader of Gemma's ``call:name{key:value}``; ``quote``: what is around a text."""

    def read(reader: Reader, calls: Calls) -> Steps[None]:
        text, _ = yield from reader.until((close,))
        name, arguments = tagged_values.read(text, quote)
        yield from calls.whole(reader, name, arguments)

    return read


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags around a function and its parameters."""

    name_end: str
    parameter: str
    parameter_name_end: str
    parameter_end: str


EQUALS = Tags(">", "<parameter=", ">", "</parameter>")
QUOTES = Tags('">', '<param name="', '">', "</param>")
_FUNCTION_END = "</function>"


def function(opened: str = "", tags: Tags = EQUALS) -> Read:
    """Return a reader of a function in tags; ``opened``: the tag that is still to be read."""

    def read(reader: Reader, calls: Calls) -> Steps[None]:
        if opened:
            yield from reader.expect(opened)
        name, word = yield from reader.until((tags.name_end,), LONGEST_WORD)
        if not word or not _is_name(name.strip()):
            raise malformed(tags.name_end)
        name = name.strip()
        yield calls.begin(name)
        reader.release()
        yield from _parameters(reader, calls, tags, calls.parameters.get(name, {}))

    return read


def tagged_function(close: str) -> Read:
    """Return a reader of a function in tags that are themselves between marks."""

    def read(reader: Reader, calls: Calls) -> Steps[None]:
        yield from function("<function=")(reader, calls)
        yield from _close(reader, close)

    return read


def _parameters(
    reader: Reader, calls: Calls, tags: Tags, schemas: Mapping[str, Any]
) -> Steps[None]:
    between, word = "{", ""
    while word != _FUNCTION_END:
        yield from reader.skip_space()
        if not (yield from reader.take(tags.parameter)):
            word = _FUNCTION_END if (yield from reader.take(_FUNCTION_END)) else ""
            break
        key, word = yield from reader.until((tags.parameter_name_end,), LONGEST_WORD)
        text, word = yield from reader.until((tags.parameter_end, _FUNCTION_END))
        value = json.dumps(_value(text, schemas.get(key.strip())), ensure_ascii=False)
        yield calls.arguments(f"{between}{json.dumps(key.strip(), ensure_ascii=False)}: {value}")
        reader.release()
        between = ", "
    yield calls.arguments("}" if between == ", " else "{}")
    if word:
        yield calls.end()
    reader.release()


def _value(text: str, schema: Any) -> Any:
    """Return what a parameter's text means by the schema of the parameter."""
    text = text.removeprefix("\n").removesuffix("\n")
    if text.startswith("<![CDATA[") and text.endswith("]]>"):
        text = text.removeprefix("<![CDATA[").removesuffix("]]>")
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    if kind == "string":
        return text
    for read in (parse, python_calls.literal):  # some templates write values as Python does
        try:
            return read(text)
        except MalformedError:
            continue
    return text


def _is_name(text: str) -> bool:
    return bool(text) and all(letter.isalnum() or letter in "_-.:" for letter in text)

"""Reads an answer as it comes: reasoning, text, tool calls. What is no call is text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pitool.chat_format.calls import Calls, Read, json_call
from pitool.chat_format.events import Content, Event, Reasoning, joined
from pitool.chat_format.formats import THINKING, calls_of, thinking_of
from pitool.chat_format.reader import SPACE, MalformedError, Reader, Steps, malformed


class AnswerParser:
    """Gives the events of one answer; the same ones, but for where they are cut, however it comes.

    ``chat_format``: the model's, as ``format_of`` names it; ``before``: how the prompt ends, which
    may have begun the reasoning; ``tools``: what the model may call, as OpenAI's interface has it,
    nothing where a call is to be taken for text.

    White space around reasoning and calls belongs to neither and is left out.
    """

    def __init__(
        self, chat_format: str, *, before: str = "", tools: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self._reader = Reader()
        self._form = calls_of(chat_format)
        self._marks = thinking_of(chat_format) or THINKING["think"]
        self._opened = before.rstrip().endswith(self._marks.open)
        self._tools = bool(tools)
        self.calls = Calls(dict(map(_parameters, tools)))
        self._steps = self._trimmed()

    def feed(self, text: str) -> Sequence[Event]:
        """Return what became certain with a piece of the answer."""
        self._reader.feed(text)
        return self._run()

    def finish(self) -> Sequence[Event]:
        """Return what was held back, at the end of the answer."""
        self._reader.end()
        return self._run()

    def _run(self) -> Sequence[Event]:
        found: list[Event] = []
        for event in self._steps:
            if event is None:
                break
            found.append(event)
        return joined(found)

    def _trimmed(self) -> Steps[None]:
        """Leave white space out before reasoning ends and before a call."""
        held: Event | None = None
        for event in self._answer():
            if isinstance(event, Reasoning | Content):
                text = (held.text if isinstance(held, type(event)) else "") + event.text
                kept = text.rstrip(SPACE)
                held = type(event)(text[len(kept) :])
                yield type(event)(kept)
                continue
            if event is not None:
                held = None
            yield event
        if held is not None:
            yield held

    def _answer(self) -> Steps[None]:
        reader = self._reader
        start = reader.at
        yield from reader.skip_space()
        if self._opened or (yield from reader.take(self._marks.open)):
            yield from self._reasoning()
        else:
            reader.at = start
        yield from self._content()

    def _reasoning(self) -> Steps[None]:
        reader = self._reader
        yield from reader.skip_space()
        reader.release()
        yield from reader.text_until((self._marks.close,), Reasoning)
        yield from reader.skip_space()
        reader.release()

    def _content(self) -> Steps[None]:
        if self._form.bare and self._tools:
            yield from self._call(_bare_call, "")
        readers = self._form.readers if self._tools else {}
        while mark := (yield from self._reader.text_until(tuple(readers), Content)):
            yield from self._call(readers[mark], mark)

    def _call(self, read: Read, mark: str) -> Steps[None]:
        """Read what follows a mark; what is no call, or breaks off, is text."""
        reader, calls, before = self._reader, self.calls, self.calls.count
        try:
            yield from read(reader, calls)
        except MalformedError:
            reader.at = 0  # all before is in an event
            if calls.count == before and mark:
                yield Content(mark)
            elif calls.running and reader.rest:
                yield calls.end()


def _bare_call(reader: Reader, calls: Calls) -> Steps[None]:
    if (yield from reader.skip_space()) != "{":
        raise malformed("{")
    yield from json_call(reader, calls, calls.parameters)


def _parameters(tool: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return a tool's name and the schemas of its parameters."""
    function = tool.get("function", tool)
    parameters = function.get("parameters")
    found = parameters.get("properties") if isinstance(parameters, Mapping) else None
    return str(function.get("name", "")), found if isinstance(found, Mapping) else {}

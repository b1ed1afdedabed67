"""The JSON of the responses interface: a response with its items, and the events of a stream."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from pitool.chat_format import CallArguments, CallBegun, Content, Event, Reasoning
from pitool.engine.base import ToolCall
from pitool.serve.answers import Whole
from pitool.serve.openai.documents import counts, new_id

Json = dict[str, Any]


class Document:
    """One response; ``echoed``: fields of the request that it repeats."""

    def __init__(self, model: str, echoed: Mapping[str, Any]) -> None:
        self._model, self._echoed = model, echoed
        self._id, self._created = new_id("resp_"), int(time.time())

    def whole(self, answer: Whole) -> Json:
        """Return the response of a whole answer."""
        output: list[Json] = []
        if answer.reasoning:
            output.append(_reasoning(new_id("rs_"), answer.reasoning))
        if answer.content or not answer.calls:
            output.append(_message(new_id("msg_"), answer.content))
        output += [_call(new_id("fc_"), call) for call in answer.calls]
        return self.ended(answer, output)

    def ended(self, answer: Whole, output: list[Json]) -> Json:
        """Return the response with its output, completed or cut off."""
        cut = answer.finish in ("length", "context")
        made = self.state("incomplete" if cut else "completed", output)
        if cut:
            made["incomplete_details"] = {"reason": "max_output_tokens"}
        return {**made, **_usage(answer)}

    def state(self, status: str, output: list[Json]) -> Json:
        """Return the response as it stands."""
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": self._model,
            "output": output,
            "previous_response_id": None,
            "store": False,
            "truncation": "disabled",
            "metadata": {},
            "user": None,
            "usage": None,
            **self._echoed,
        }


def _usage(answer: Whole) -> Json:
    t = answer.timings
    usage = {
        "input_tokens": t.prompt_tokens,
        "input_tokens_details": {"cached_tokens": t.reused_tokens},
        "output_tokens": t.decoded_tokens,
        "output_tokens_details": {"reasoning_tokens": answer.reasoned},
        "total_tokens": t.prompt_tokens + t.decoded_tokens,
    }
    return {"usage": usage, "timings": counts(t)["timings"]}


def _message(number: str, text: str, status: str = "completed") -> Json:
    content = [_text(text)] if status == "completed" else []
    return {
        "id": number,
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": content,
    }


def _text(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _reasoning(number: str, text: str, status: str = "completed") -> Json:
    content = [{"type": "reasoning_text", "text": text}] if status == "completed" else []
    return {"id": number, "type": "reasoning", "summary": [], "content": content, "status": status}


def _call(number: str, call: ToolCall, status: str = "completed") -> Json:
    return {
        "id": number,
        "type": "function_call",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
        "status": status,
    }


class Events:
    """The events of a stream, numbered; one item is open at a time."""

    def __init__(self, document: Document) -> None:
        self._document, self._number = document, -1
        self._output: list[Json] = []
        self._open: _Open | None = None
        self.begun = False

    def begin(self) -> Iterator[Json]:
        """Yield what comes first."""
        self.begun = True
        for name in ("created", "in_progress"):
            state = self._document.state("in_progress", [])
            yield self._event(f"response.{name}", response=state)

    def add(self, event: Event) -> Iterator[Json]:
        """Yield what an event of the answer brings."""
        match event:
            case Content(text):
                yield from self._go_on(_OpenText, text)
            case Reasoning(text):
                yield from self._go_on(_OpenReasoning, text)
            case CallBegun(_, number, name):
                yield from self._begin(_OpenCall(ToolCall(number, name, "")))
            case CallArguments(_, text):
                yield from self._go_on(_OpenCall, text)

    def end(self, answer: Whole) -> Iterator[Json]:
        """Yield what comes last."""
        if not self._output and self._open is None:
            yield from self._begin(_OpenText())
        yield from self._close()
        made = self._document.ended(answer, self._output)
        yield self._event(f"response.{made['status']}", response=made)

    def _go_on(self, kind: type[_Open], text: str) -> Iterator[Json]:
        if not isinstance(self._open, kind):
            yield from self._begin(kind())
        assert self._open
        self._open.text += text
        yield self._of_part(f"response.{kind.word}.delta", delta=text, **kind.delta)

    def _begin(self, item: _Open) -> Iterator[Json]:
        yield from self._close()
        self._open = item
        yield self._event(
            "response.output_item.added", output_index=len(self._output), item=item.item(False)
        )
        if item.part:
            yield self._of_part("response.content_part.added", part=item.content(""))

    def _close(self) -> Iterator[Json]:
        item, self._open = self._open, self._open
        if item is None:
            return
        yield self._of_part(f"response.{item.word}.done", **item.whole(), **item.delta)
        if item.part:
            yield self._of_part("response.content_part.done", part=item.content(item.text))
        done = item.item(True)
        yield self._event("response.output_item.done", output_index=len(self._output), item=done)
        self._output.append(done)
        self._open = None

    def _of_part(self, kind: str, **named: Any) -> Json:
        assert self._open
        place: Json = {"item_id": self._open.number, "output_index": len(self._output)}
        if self._open.part:
            place["content_index"] = 0
        return self._event(kind, **place, **named)

    def _event(self, kind: str, **named: Any) -> Json:
        self._number += 1
        return {"type": kind, "sequence_number": self._number, **named}


class _Open:
    """An item that is being written; ``word``: of its events; ``part``: it has parts of content."""

    word, prefix, part = "", "", True
    delta: Mapping[str, Any] = MappingProxyType({})

    def __init__(self) -> None:
        self.number, self.text = new_id(self.prefix), ""

    def item(self, done: bool) -> Json:
        """Return the item."""
        raise NotImplementedError

    def content(self, text: str) -> Json:
        """Return its part."""
        raise NotImplementedError

    def whole(self) -> Json:
        """Return what the event at its end says."""
        return {"text": self.text}


def _status(done: bool) -> str:
    return "completed" if done else "in_progress"


class _OpenText(_Open):
    word, prefix = "output_text", "msg_"
    delta = MappingProxyType({"logprobs": []})

    def item(self, done: bool) -> Json:
        return _message(self.number, self.text, _status(done))

    def content(self, text: str) -> Json:
        return _text(text)


class _OpenReasoning(_Open):
    word, prefix = "reasoning_text", "rs_"

    def item(self, done: bool) -> Json:
        return _reasoning(self.number, self.text, _status(done))

    def content(self, text: str) -> Json:
        return {"type": "reasoning_text", "text": text}


class _OpenCall(_Open):
    word, prefix, part = "function_call_arguments", "fc_", False

    def __init__(self, call: ToolCall) -> None:
        super().__init__()
        self._call = call

    def item(self, done: bool) -> Json:
        call = ToolCall(self._call.id, self._call.name, self.text)
        return _call(self.number, call, _status(done))

    def whole(self) -> Json:
        return {"arguments": self.text, "name": self._call.name}

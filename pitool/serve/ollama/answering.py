"""``/api/chat`` and ``/api/generate``: answers in lines of JSON, or whole."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request

from pitool.engine.base import Message, ToolCall
from pitool.errors import UsageError
from pitool.serve import fim
from pitool.serve.answers import Plain, Step, Whole, steps
from pitool.serve.bodies import Fields, read_body
from pitool.serve.context import Context, context_of
from pitool.serve.conversations import Conversation, Prepared, prepare
from pitool.serve.ollama import documents, options
from pitool.serve.openai.messages import tools
from pitool.serve.replies import LINES, Pieces, Reply
from pitool.serve.shapes import ANY_OBJECT, Shape
from pitool.serve.shelf import Offer
from pitool.serve.times import parse_time
from pitool.serve.turns import Turn

CHAT, GENERATE = "/api/chat", "/api/generate"
ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for; nothing to answer only loads the model.

    ``raw``: a text that is continued as it is, with ``suffix`` behind what is wanted; ``keep``:
    seconds for which the model stays.
    """

    path: str
    model: str | None
    conversation: Conversation | None
    raw: str | None
    suffix: str
    stream: bool
    keep: float | None


async def chat(request: Request) -> Reply:
    """Answer a conversation."""
    return await _reply(request, parse_chat(await read_body(request)))


async def generate(request: Request) -> Reply:
    """Answer a prompt."""
    return await _reply(request, parse_generate(await read_body(request)))


async def _reply(request: Request, asked: Asked) -> Reply:
    context = context_of(request)
    offer = await context.find(asked.model)
    if asked.conversation is None:
        return Reply(_load(context, offer, asked), None)
    if asked.stream:
        return Reply(_stream(context, offer, asked), LINES)
    return Reply(_whole(context, offer, asked), None)


# -- requests ------------------------------------------------------------------------------


def parse_chat(fields: Fields) -> Asked:
    """Return what the body of a chat asks for."""
    turns = fields.list("messages") or []
    messages = tuple(_message(each, i) for i, each in enumerate(turns))
    return _asked(CHAT, fields, messages, tools(fields))


def parse_generate(fields: Fields) -> Asked:
    """Return what the body of a generation asks for."""
    prompt, system = fields.text("prompt") or "", fields.text("system")
    raw, suffix = fields.flag("raw") or False, fields.text("suffix") or ""
    fields.plain({"images": ([],), "template": ("",), "context": ([],)})
    messages = [Message("system", system)] if system else []
    messages += [Message("user", prompt)] if prompt or suffix else []
    asked = _asked(GENERATE, fields, tuple(messages if prompt or suffix else ()), ())
    return replace(asked, raw=prompt if raw or suffix else None, suffix=suffix)


def _asked(
    path: str, fields: Fields, messages: tuple[Message, ...], known: tuple[Mapping[str, Any], ...]
) -> Asked:
    conversation = Conversation(
        messages,
        options.sampling(fields.fields("options")),
        known,
        effort=_effort(fields.take("think")),
        shape=_shape(fields.take("format")),
    )
    keep = fields.take("keep_alive")
    stream = fields.flag("stream")
    asked = Asked(
        path, fields.text("model") or fields.text("name"), conversation if messages else None,
        None, "", stream is None or stream, None if keep is None else parse_time(keep),
    )  # fmt: skip
    fields.ignore("truncate", "shift")
    fields.plain({"logprobs": (False,), "top_logprobs": (0,)})
    fields.done()
    return asked


def _message(value: object, i: int) -> Message:
    fields = Fields(value, f"message {i}")
    role = fields.word("role", ROLES)
    if role is None:
        raise UsageError(f"message {i} has no role", f"use one of: {', '.join(ROLES)}")
    message = Message(
        role,
        fields.text("content") or "",
        tuple(_call(each, i, place) for place, each in enumerate(fields.list("tool_calls") or [])),
        fields.text("tool_call_id") or "",
        fields.text("tool_name") or fields.text("name") or "",
        fields.text("thinking") or "",
    )
    fields.plain({"images": ([],)})
    fields.done()
    return message


def _call(value: object, i: int, place: int) -> ToolCall:
    fields = Fields(value, f"a tool call of message {i}")
    function = fields.fields("function")
    if function is None:
        raise UsageError(f"a tool call of message {i} has no function", "send name and arguments")
    given = function.take("arguments")
    return ToolCall(
        fields.text("id") or f"call{i:02}x{place:02}",
        function.text("name") or "",
        given if isinstance(given, str) else json.dumps(given or {}),
    )


def _effort(think: object) -> str:
    if think is None:
        return ""
    if isinstance(think, bool):
        return "default" if think else "none"
    if think in ("low", "medium", "high"):
        return str(think)
    raise UsageError("'think' is not valid", "send true, false, low, medium or high")


def _shape(form: object) -> Shape:
    if form is None or form == "":
        return None
    if form == "json":
        return ANY_OBJECT
    if isinstance(form, Mapping):
        return form
    raise UsageError("'format' is not valid", "send 'json' or a JSON Schema")


# -- answers -------------------------------------------------------------------------------


async def _load(context: Context, offer: Offer, asked: Asked) -> Pieces:
    """Load a model, or unload it where it is not to be kept."""
    said: dict[str, Any] = (
        {"message": documents.message()} if asked.path == CHAT else {"response": ""}
    )
    reason = "load"
    if asked.keep == 0:
        context.models.release(offer)
        reason = "unload"
    else:
        async with context.models.turn(offer, asked.keep):
            pass
    yield {**documents.head(offer.tag), **said, "done": True, "done_reason": reason}


async def _ready(turn: Turn, asked: Asked) -> Prepared:
    assert asked.conversation is not None
    conversation, raw = asked.conversation, asked.raw
    if asked.path == GENERATE and not turn.info.chat_template:  # a base model reads on
        raw = raw or "\n".join(each.content for each in conversation.messages)
    if raw is None:
        return await turn.call(lambda engine: prepare(engine, conversation))
    ids = await turn.call(
        lambda engine: (
            fim.between(engine, raw, asked.suffix) if asked.suffix else engine.tokenize(raw)
        )
    )
    return Prepared(ids, conversation.sampling, "", "", ())


def _said(path: str, content: str, reasoning: str, calls: list[ToolCall]) -> dict[str, Any]:
    """Return a piece of what was said."""
    if path == CHAT:
        return {"message": documents.message(content, reasoning, calls)}
    return {"response": content, **({"thinking": reasoning} if reasoning else {})}


@asynccontextmanager
async def _answering(
    context: Context, offer: Offer, asked: Asked
) -> AsyncIterator[tuple[Turn, AsyncIterator[Step]]]:
    """Give the turn of a request and the steps of its answer, which end with the block."""
    async with context.models.turn(offer, asked.keep) as turn:
        ready = await _ready(turn, asked)
        parser = Plain() if asked.raw is not None else ready.parser()
        async with aclosing(steps(turn, ready.prompt, ready.sampling, parser)) as said:
            yield turn, said


async def _whole(context: Context, offer: Offer, asked: Asked) -> Pieces:
    answer = Whole()
    async with _answering(context, offer, asked) as (turn, said):
        async for step in said:
            answer.add(step)
        load = turn.waited
    told = _said(asked.path, answer.content, answer.reasoning, answer.calls)
    yield {
        **documents.head(offer.tag),
        **told,
        **documents.end(answer.finish, answer.timings, load),
    }
    context.answered(asked.path, offer.id, answer.timings)


async def _stream(context: Context, offer: Offer, asked: Asked) -> Pieces:
    answer = Whole()
    async with _answering(context, offer, asked) as (turn, said):
        async for step in said:
            before = len(answer.content), len(answer.reasoning)
            answer.add(step)
            content, reasoning = answer.content[before[0] :], answer.reasoning[before[1] :]
            if content or reasoning:
                told = _said(asked.path, content, reasoning, [])
                yield {**documents.head(offer.tag), **told, "done": False}
        load = turn.waited
    if answer.calls:
        told = _said(asked.path, "", "", answer.calls)
        yield {**documents.head(offer.tag), **told, "done": False}
    told = _said(asked.path, "", "", [])
    yield {
        **documents.head(offer.tag),
        **told,
        **documents.end(answer.finish, answer.timings, load),
    }
    context.answered(asked.path, offer.id, answer.timings)

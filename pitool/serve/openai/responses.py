"""``/v1/responses``: the newer interface, for text and functions; nothing is stored."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request

from pitool.engine.base import Message, ToolCall
from pitool.errors import UsageError
from pitool.serve.answers import Step, Whole, steps
from pitool.serve.bodies import Fields, read_body
from pitool.serve.context import Context, context_of
from pitool.serve.conversations import Conversation, prepare
from pitool.serve.openai.chat import EFFORTS, MOST_TOP, options
from pitool.serve.openai.items import Document, Events
from pitool.serve.openai.messages import (
    MOST_TOOLS,
    ROLES,
    function_tool,
    text_of,
    tool_choice,
)
from pitool.serve.openai.sampling import sampling
from pitool.serve.replies import NAMED_EVENTS, Pieces, Reply
from pitool.serve.shapes import ANY_OBJECT, FORMS, Shape, schema_of
from pitool.serve.shelf import Offer
from pitool.serve.turns import Turn

PATH = "/v1/responses"
HARMLESS = (
    "user", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "include",
    "prompt_cache_retention", "stream_options", "max_tool_calls",
)  # fmt: skip
# Nothing is kept: a request brings its whole conversation.
PLAIN: dict[str, tuple[object, ...]] = {
    "store": (False,),
    "background": (False,),
    "previous_response_id": (),
    "conversation": (),
    "prompt": (),
    "truncation": ("disabled",),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for; ``echoed``: its fields that the response repeats."""

    model: str | None
    conversation: Conversation
    stream: bool
    echoed: Mapping[str, Any]


async def endpoint(request: Request) -> Reply:
    """Answer a conversation, whole or in events."""
    context, asked = context_of(request), parse(await read_body(request))
    offer = await context.find(asked.model)
    if asked.stream:
        return Reply(_stream(context, offer, asked), NAMED_EVENTS)
    return Reply(_whole(context, offer, asked), None)


# -- requests ------------------------------------------------------------------------------


def parse(fields: Fields) -> Asked:
    """Return what a body asks for; UsageError names what is wrong with it."""
    instructions = fields.text("instructions")
    turns = _turns(fields.take("input"))
    if instructions:
        turns.insert(0, Message("system", instructions))
    given_tools = fields.list("tools") or []
    known = tuple(_tool(each, i) for i, each in enumerate(given_tools))
    if len(known) > MOST_TOOLS:
        raise UsageError(f"there are {len(known)} tools", f"send at most {MOST_TOOLS}")
    given_choice = fields.take("tool_choice")
    parallel = fields.flag("parallel_tool_calls") is not False
    effort, form = _effort(fields.fields("reasoning")), fields.take("text")
    top = fields.integer("top_logprobs", 0, MOST_TOP)
    chosen = replace(sampling(fields, ("max_output_tokens",)), top_logprobs=top or None)
    conversation = Conversation(
        tuple(turns), chosen, known, replace(tool_choice(given_choice, known), parallel=parallel),
        options(fields), effort, _shape(form),
    )  # fmt: skip
    echoed = {
        "instructions": instructions,
        "max_output_tokens": chosen.max_tokens,
        "parallel_tool_calls": parallel,
        "temperature": chosen.temperature,
        "top_p": chosen.top_p,
        "tool_choice": given_choice or "auto",
        "tools": given_tools,
        "text": form or {"format": {"type": "text"}},
        "reasoning": {"effort": effort or None, "summary": None},
    }
    stream = fields.flag("stream") or False
    asked = Asked(fields.text("model"), conversation, stream, echoed)
    fields.ignore(*HARMLESS)
    fields.plain(PLAIN)
    fields.done()
    return asked


def _tool(value: object, i: int) -> Mapping[str, Any]:
    fields = Fields(value, f"tool {i}")
    if (kind := fields.take("type")) != "function":
        raise UsageError(f"tool {i} is of type {kind!r}", "send tools of type 'function'")
    return function_tool(fields, i)


def _effort(reasoning: Fields | None) -> str:
    if reasoning is None:
        return ""
    effort = reasoning.word("effort", EFFORTS) or ""
    reasoning.ignore("summary", "generate_summary")
    reasoning.done()
    return effort


def _shape(text: object) -> Shape:
    """Return what the answer may be, of ``text.format``."""
    if text is None:
        return None
    fields = Fields(text, "'text'")
    form = fields.fields("format")
    fields.plain({"verbosity": ("medium",)})
    fields.done()
    kind = form.word("type", FORMS) if form is not None else "text"
    if form is None or kind == "text":
        return None
    return schema_of(form) if kind == "json_schema" else ANY_OBJECT


def _turns(value: object) -> list[Message]:
    """Return the conversation in ``input``: a text, or items."""
    if isinstance(value, str) and value:
        return [Message("user", value)]
    if not isinstance(value, list) or not value:
        raise UsageError("'input' is neither a text nor a list of items", "send a text")
    turns: list[Message] = []
    for i, item in enumerate(value):
        _add_item(turns, Fields(item, f"item {i}"), f"item {i}")
    return turns


def _add_item(turns: list[Message], fields: Fields, where: str) -> None:
    """Add an item to a conversation: what an assistant said in several belongs together."""
    kind = fields.text("type") or "message"
    fields.ignore("id", "status", "phase")
    match kind:
        case "message":
            role = fields.word("role", ROLES) or "user"
            made = Message("system" if role == "developer" else role, _said(fields, where))
            turns[-1:] = _joined(turns[-1:], made)
        case "reasoning":
            made = Message("assistant", "", reasoning=_reasoning(fields, where))
            turns[-1:] = _joined(turns[-1:], made)
        case "function_call":
            call = ToolCall(
                fields.text("call_id") or "",
                fields.text("name") or "",
                fields.text("arguments") or "{}",
            )
            turns[-1:] = _joined(turns[-1:], Message("assistant", "", (call,)))
        case "function_call_output":
            number = fields.text("call_id") or ""
            output = text_of(fields.take("output"), where)
            turns.append(Message("tool", output, call_id=number, name=_name_of(turns, number)))
        case _:
            raise UsageError(f"{where} is of type {kind!r}", "send messages and function calls")
    fields.done()


def _said(fields: Fields, where: str) -> str:
    return text_of(fields.take("content"), where)


def _reasoning(fields: Fields, where: str) -> str:
    fields.ignore("encrypted_content")
    parts = [*(fields.list("summary") or []), *(fields.list("content") or [])]
    texts = [part.get("text") if isinstance(part, Mapping) else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{where} has more than text", "send only text")
    return "".join(text for text in texts if text)


def _joined(last: list[Message], made: Message) -> list[Message]:
    """Return an assistant's turn with what it said next, or both turns."""
    if not last or not last[0].role == made.role == "assistant":
        return [*last, made]
    (before,) = last
    if not made.calls and (before.content or before.calls):
        return [before, made]
    return [
        replace(
            before,
            content=before.content + made.content,
            calls=before.calls + made.calls,
            reasoning=before.reasoning + made.reasoning,
        )
    ]


def _name_of(turns: Sequence[Message], number: str) -> str:
    """Return the name of the function that a call with this id asked for."""
    calls = (call for turn in turns for call in turn.calls)
    return next((call.name for call in calls if call.id == number), "")


# -- answers -------------------------------------------------------------------------------


async def _said_steps(turn: Turn, asked: Asked) -> AsyncGenerator[Step]:
    ready = await turn.call(lambda engine: prepare(engine, asked.conversation))
    async with aclosing(steps(turn, ready.prompt, ready.sampling, ready.parser())) as said:
        async for step in said:
            yield step


async def _whole(context: Context, offer: Offer, asked: Asked) -> Pieces:
    answer, document = Whole(), Document(offer.id, asked.echoed)
    async with context.models.turn(offer) as turn, aclosing(_said_steps(turn, asked)) as said:
        async for step in said:
            answer.add(step)
    yield document.whole(answer)
    context.answered(PATH, offer.id, answer.timings)


async def _stream(context: Context, offer: Offer, asked: Asked) -> Pieces:
    answer, events = Whole(), Events(Document(offer.id, asked.echoed))
    async with context.models.turn(offer) as turn, aclosing(_said_steps(turn, asked)) as said:
        async for step in said:
            if not answer.finish and not events.begun:
                for event in events.begin():
                    yield event
            answer.add(step)
            for said_event in step.events:
                for event in events.add(said_event):
                    yield event
    for event in events.end(answer):
        yield event
    context.answered(PATH, offer.id, answer.timings)

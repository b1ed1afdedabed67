"""``/v1/chat/completions``: a conversation is answered."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request

from pitool.engine.base import Sampling
from pitool.errors import UsageError
from pitool.serve.answers import Whole, steps, together
from pitool.serve.bodies import Fields, read_body
from pitool.serve.context import Context, context_of
from pitool.serve.conversations import Choice, Conversation, prepare
from pitool.serve.openai import documents
from pitool.serve.openai.messages import messages, text_of, tool_choice, tools
from pitool.serve.openai.sampling import sampling
from pitool.serve.replies import EVENTS, Pieces, Reply
from pitool.serve.shapes import shape
from pitool.serve.shelf import Offer

PATH = "/v1/chat/completions"
MOST_CHOICES = 16
MOST_TOP = 20
MOST_PREDICTED = 1 << 17
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")
# Change nothing of an answer: whose it is, where it is kept, how its speed is shown.
HARMLESS = (
    "user", "metadata", "service_tier", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention", "timings_per_token", "cache_prompt", "id_slot", "return_progress",
)  # fmt: skip
# What asks for nothing special.
PLAIN: dict[str, tuple[object, ...]] = {
    "store": (False,),
    "modalities": (["text"],),
    "audio": (),
    "functions": ([],),
    "function_call": ("none",),
    "web_search_options": (),
    "verbosity": ("medium",),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for; ``usage``: a stream ends with a piece that counts tokens."""

    model: str | None
    conversation: Conversation
    choices: int
    stream: bool
    usage: bool


def parse(fields: Fields) -> Asked:
    """Return what a body asks for; UsageError names what is wrong with it."""
    chosen = sampling(fields, ("max_tokens", "max_completion_tokens"))
    known = tools(fields)
    conversation = Conversation(
        messages(fields),
        replace(chosen, top_logprobs=_top(fields), prediction=_prediction(fields)),
        known,
        _choice(fields, known),
        options(fields),
        fields.word("reasoning_effort", EFFORTS) or "",
        shape(fields),
    )
    asked = Asked(
        fields.text("model"),
        conversation,
        fields.integer("n", 1, MOST_CHOICES) or 1,
        fields.flag("stream") or False,
        usage_wanted(fields),
    )
    fields.ignore(*HARMLESS)
    fields.plain(PLAIN)
    fields.done()
    return asked


def _choice(fields: Fields, known: tuple[Mapping[str, Any], ...]) -> Choice:
    choice = tool_choice(fields.take("tool_choice"), known)
    return replace(choice, parallel=fields.flag("parallel_tool_calls") is not False)


def usage_wanted(fields: Fields) -> bool:
    """Tell whether a stream is to end with the counts of tokens."""
    given = fields.fields("stream_options")
    if given is None:
        return False
    given.ignore("include_obfuscation")
    wanted = given.flag("include_usage") or False
    given.done()
    return wanted


def options(fields: Fields) -> Mapping[str, Any]:
    """Return what the chat template is told besides, by its own names."""
    given = fields.take("chat_template_kwargs")
    if given is not None and not isinstance(given, Mapping):
        raise UsageError("'chat_template_kwargs' is not an object", "send an object")
    return given or {}


def _top(fields: Fields) -> int | None:
    """Return how many likely tokens are to come with each; None for no log-probabilities."""
    wanted, top = fields.flag("logprobs"), fields.integer("top_logprobs", 0, MOST_TOP)
    if top and not wanted:
        raise UsageError("'top_logprobs' needs 'logprobs'", "send logprobs: true as well")
    return (top or 0) if wanted else None


def _prediction(fields: Fields) -> str:
    """Return the text that much of the answer is expected to be, from which tokens are guessed."""
    given = fields.fields("prediction")
    if given is None:
        return ""
    if given.take("type") not in (None, "content"):
        raise UsageError("'prediction' is not of type 'content'", "send its text as content")
    text = text_of(given.take("content"), "'prediction'")
    given.done()
    if len(text) > MOST_PREDICTED:
        raise UsageError(f"'prediction' has {len(text)} characters", f"send up to {MOST_PREDICTED}")
    return text


async def endpoint(request: Request) -> Reply:
    """Answer a conversation, whole or in events."""
    context, asked = context_of(request), parse(await read_body(request))
    offer = await context.find(asked.model)
    if asked.stream:
        return Reply(_stream(context, offer, asked), EVENTS)
    return Reply(_whole(context, offer, asked), None)


def seeded(sampling: Sampling, index: int) -> Sampling:
    """Return the sampling of one of several answers: none is to be like another."""
    return sampling if sampling.seed is None else replace(sampling, seed=sampling.seed + index)


async def _whole(context: Context, offer: Offer, asked: Asked) -> Pieces:
    frame = documents.Frame.of_chat(offer.id)
    choices, timings = [], []
    async with context.models.turn(offer) as turn:
        ready = await turn.call(lambda engine: prepare(engine, asked.conversation))
        for index in range(asked.choices):
            answer = Whole()
            said = steps(turn, ready.prompt, seeded(ready.sampling, index), ready.parser())
            async with aclosing(said):
                async for step in said:
                    answer.add(step)
            choice = {
                "index": index,
                "message": documents.message(answer),
                "logprobs": documents.chat_logprobs(answer.tokens),
                "finish_reason": documents.reason(answer.finish, calls=bool(answer.calls)),
            }
            choices.append(choice)
            timings.append(answer.timings)
    yield frame.whole(choices, together(timings))
    context.answered(PATH, offer.id, together(timings))


async def _stream(context: Context, offer: Offer, asked: Asked) -> Pieces:
    frame = documents.Frame.of_chat(offer.id)
    timings = []
    async with context.models.turn(offer) as turn:
        ready = await turn.call(lambda engine: prepare(engine, asked.conversation))
        for index in range(asked.choices):
            answer, begun = Whole(), False
            said = steps(turn, ready.prompt, seeded(ready.sampling, index), ready.parser())
            async with aclosing(said):
                async for step in said:
                    if not begun:
                        begun = True
                        yield frame.piece(index, {"delta": {"role": "assistant", "content": ""}})
                    answer.add(step)
                    logprobs = documents.chat_logprobs([step.token])
                    for delta in documents.deltas(step.events):
                        yield frame.piece(index, {"delta": delta}, logprobs=logprobs)
                        logprobs = None
                    if logprobs:
                        yield frame.piece(index, {"delta": {}}, logprobs=logprobs)
            finish = documents.reason(answer.finish, calls=bool(answer.calls))
            yield frame.piece(index, {"delta": {}}, finish)
            timings.append(answer.timings)
    if asked.usage:
        yield frame.count(together(timings))
    context.answered(PATH, offer.id, together(timings))

"""``/v1/completions``: a text, or token ids, are continued."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from starlette.requests import Request

from pitool.engine.base import Engine, Sampling, Token
from pitool.errors import UsageError
from pitool.serve import fim
from pitool.serve.answers import Plain, Whole, steps, together
from pitool.serve.bodies import Fields, read_body
from pitool.serve.context import Context, context_of
from pitool.serve.openai import documents
from pitool.serve.openai.chat import HARMLESS, MOST_CHOICES, MOST_TOP, seeded, usage_wanted
from pitool.serve.openai.sampling import most_tokens, sampling
from pitool.serve.replies import EVENTS, Pieces, Reply
from pitool.serve.shapes import Shape, grammar, shape
from pitool.serve.shelf import Offer
from pitool.serve.turns import Turn

PATH = "/v1/completions"
MOST_PROMPTS = 64

Text = str | Sequence[int]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for; ``suffix``: what follows the text that is wanted."""

    model: str | None
    prompts: Sequence[Text]
    suffix: str | None
    sampling: Sampling
    shape: Shape
    choices: int
    echo: bool
    stream: bool
    usage: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer to one prompt; ``before``: the prompt's text where it is to be echoed."""

    index: int
    prompt: Text
    before: str
    sampling: Sampling


def parse(fields: Fields) -> Asked:
    """Return what a body asks for; UsageError names what is wrong with it."""
    echo = fields.flag("echo") or False
    top = fields.integer("logprobs", 0, MOST_TOP)
    if echo and top is not None:
        raise UsageError("'echo' with 'logprobs' is not supported", "drop one of them")
    chosen = replace(
        sampling(fields, ()),
        top_logprobs=top,
        max_tokens=most_tokens(fields, "max_tokens", 0 if echo else 1),
    )
    choices = fields.integer("n", 1, MOST_CHOICES) or 1
    asked = Asked(
        fields.text("model"), _prompts(fields.take("prompt")), fields.text("suffix") or None,
        chosen, shape(fields), choices, echo, fields.flag("stream") or False, usage_wanted(fields),
    )  # fmt: skip
    if asked.echo and asked.suffix:
        raise UsageError("'echo' with 'suffix' is not supported", "drop one of them")
    fields.ignore(*HARMLESS)
    fields.plain({"best_of": (1, choices), "tools": ([],), "store": (False,)})
    fields.done()
    return asked


def _prompts(value: object) -> Sequence[Text]:
    """Return the prompts: of a text, token ids, or a list of either."""
    found = texts_of(value)
    if not found:
        raise UsageError("'prompt' is not a string", "send a string, token ids, or a list of them")
    if len(found) > MOST_PROMPTS:
        raise UsageError(f"there are {len(found)} prompts", f"send at most {MOST_PROMPTS}")
    return found


def texts_of(value: object) -> Sequence[Text]:
    """Return a text, token ids, or a list of either as a list; an empty one for anything else."""
    several: list[Any] = value if isinstance(value, list) and not is_ids(value) else [value]
    whole = all((isinstance(each, str) and each) or is_ids(each) for each in several)
    return several if whole else []


def is_ids(value: object) -> bool:
    """Tell whether a value is a list of token ids."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(type(each) is int and 0 <= each < 2**31 for each in value)
    )


async def endpoint(request: Request) -> Reply:
    """Continue a text, whole or in events."""
    context, asked = context_of(request), parse(await read_body(request))
    offer = await context.find(asked.model)
    if asked.stream:
        return Reply(_stream(context, offer, asked), EVENTS)
    return Reply(_whole(context, offer, asked), None)


async def _choices(turn: Turn, asked: Asked) -> AsyncGenerator[Choice]:
    """Yield what is to be answered, one after the other."""
    rules = await turn.call(lambda _: grammar(asked.shape))
    sampling = replace(asked.sampling, grammar=rules)
    for place, text in enumerate(asked.prompts):
        prompt, before = await turn.call(partial(_ready, text, asked))
        for number in range(asked.choices):
            index = place * asked.choices + number
            yield Choice(index, prompt, before, seeded(sampling, index))


def _ready(text: Text, asked: Asked, engine: Engine) -> tuple[Text, str]:
    """Return a prompt as the engine is given it, and the text of it that is echoed."""
    if not isinstance(text, str) and max(text) >= engine.info.vocabulary:
        raise UsageError(f"{max(text)} is not a token of this model", "send ids of its vocabulary")
    prompt = text if asked.suffix is None else fim.between(engine, text, asked.suffix)
    if not asked.echo:
        return prompt, ""
    return prompt, text if isinstance(text, str) else engine.detokenize(text)


async def _whole(context: Context, offer: Offer, asked: Asked) -> Pieces:
    frame = documents.Frame.of_text(offer.id)
    choices, timings = [], []
    async with context.models.turn(offer) as turn, aclosing(_choices(turn, asked)) as todo:
        async for choice in todo:
            answer = Whole()
            said = steps(turn, choice.prompt, choice.sampling, Plain())
            async with aclosing(said):
                async for step in said:
                    answer.add(step)
            choices.append(
                {
                    "index": choice.index,
                    "text": choice.before + answer.content,
                    "logprobs": documents.text_logprobs(answer.tokens, 0),
                    "finish_reason": documents.reason(answer.finish),
                }
            )
            timings.append(answer.timings)
    yield frame.whole(choices, together(timings))
    context.answered(PATH, offer.id, together(timings))


async def _stream(context: Context, offer: Offer, asked: Asked) -> Pieces:
    frame = documents.Frame.of_text(offer.id)
    timings = []
    async with context.models.turn(offer) as turn, aclosing(_choices(turn, asked)) as todo:
        async for choice in todo:
            answer, at = Whole(), 0
            said = steps(turn, choice.prompt, choice.sampling, Plain())
            async with aclosing(said):
                async for step in said:
                    if choice.before and not answer.timings.decoded_tokens:
                        yield frame.piece(choice.index, {"text": choice.before})
                    shown = len(answer.content)
                    answer.add(step)
                    text = answer.content[shown:]
                    logprobs = documents.text_logprobs([step.token], at)
                    at += _length(step.token)
                    if text or logprobs:
                        yield frame.piece(choice.index, {"text": text}, logprobs=logprobs)
            finish = documents.reason(answer.finish)
            yield frame.piece(choice.index, {"text": ""}, finish)
            timings.append(answer.timings)
    if asked.usage:
        yield frame.count(together(timings))
    context.answered(PATH, offer.id, together(timings))


def _length(token: Token) -> int:
    return len(token.chosen.piece.decode(errors="replace")) if token.chosen else 0

"""One answer of a model, from its tokens to what it says: reasoning, content, calls of tools."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from pitool.chat_format import CallArguments, CallBegun, Content, Event, Reasoning, joined
from pitool.engine.base import Finish, Prompt, Sampling, Timings, Token, ToolCall
from pitool.serve.turns import Turn


class Parser(Protocol):
    """Splits the text of an answer."""

    def feed(self, text: str) -> Sequence[Event]:
        """Return what became certain with a piece of it."""

    def finish(self) -> Sequence[Event]:
        """Return what was held back."""


class Plain:
    """All of it is content."""

    def feed(self, text: str) -> Sequence[Event]:
        """Return the piece."""
        return [Content(text)] if text else []

    def finish(self) -> Sequence[Event]:
        """Return nothing: nothing was held back."""
        return []


@dataclass(slots=True)
class Step:
    """What became certain with a token, and with those before it that came together with it."""

    token: Token
    events: Sequence[Event]


async def steps(
    turn: Turn, prompt: Prompt, sampling: Sampling, parser: Parser
) -> AsyncGenerator[Step]:
    """Yield an answer step by step; the prompt's own steps are left out.

    Tokens that came together make one step as far as they say one kind of thing: a document for
    each costs more than reading it, on cores that the model could use.
    """
    async with aclosing(turn.stream(prompt, sampling)) as batches:
        async for tokens in batches:
            for step in _joined(_said(tokens, parser)):
                yield step


def _said(tokens: Sequence[Token], parser: Parser) -> Iterator[Step]:
    for token in tokens:
        events = list(parser.feed(token.text))
        if token.finish:
            events += parser.finish()
        if token.id is not None or token.finish or events:
            yield Step(token, events)


def _joined(said: Iterator[Step]) -> Iterator[Step]:
    """Yield steps, each with those after it that say more of the same."""
    held: Step | None = None
    for step in said:
        if held is not None and _goes_on(held, step):
            held = Step(step.token, joined((*held.events, *step.events)))
            continue
        if held is not None:
            yield held
        held = step
    if held is not None:
        yield held


def _goes_on(first: Step, second: Step) -> bool:
    """Tell whether nothing but content, or reasoning, goes on; with what says nothing yet."""
    if first.token.chosen or second.token.chosen:
        return False
    kinds = {type(event) for event in first.events}
    return kinds in ({Content}, {Reasoning}, set()) and kinds >= set(map(type, second.events))


@dataclass(slots=True)
class Whole:
    """An answer gathered: its parts, its tokens, and how it ended.

    ``tokens``: those that have log-probabilities; ``reasoned``: how many of all were reasoning.
    """

    content: str = ""
    reasoning: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    reasoned: int = 0
    finish: Finish | None = None
    timings: Timings = field(default_factory=lambda: Timings(0))

    def add(self, step: Step) -> None:
        """Add a step."""
        for event in step.events:
            match event:
                case Content(text):
                    self.content += text
                case Reasoning(text):
                    self.reasoning += text
                case CallBegun(_, id_, name):
                    self.calls.append(ToolCall(id_, name, ""))
                case CallArguments(_, text):
                    last = self.calls[-1]
                    self.calls[-1] = ToolCall(last.id, last.name, last.arguments + text)
        if self.reasoning and not (self.content or self.calls):
            self.reasoned = step.token.timings.decoded_tokens
        if step.token.chosen is not None:
            self.tokens.append(step.token)
        self.finish = step.token.finish
        self.timings = step.token.timings


def together(all_timings: Sequence[Timings]) -> Timings:
    """Return the figures of several answers to one request as those of one.

    A prompt is counted once, its tokens and seconds as of the first answer.
    """
    first, *rest = all_timings
    return Timings(
        first.prompt_tokens,
        first.reused_tokens,
        first.prefilled_tokens,
        first.prefill_seconds,
        first.ttft_seconds,
        first.decoded_tokens + sum(t.decoded_tokens for t in rest),
        first.decode_seconds + sum(t.decode_seconds for t in rest),
        first.guessed_tokens + sum(t.guessed_tokens for t in rest),
        first.accepted_tokens + sum(t.accepted_tokens for t in rest),
    )

"""One answer being written: the prompt that fits the context, then token by token.

What is left out of a full context, and what is said of it, is decided here.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from pitool.chat.status import Phase
from pitool.engine.base import ChatPrompt, Engine, Message, Prompt, Timings, Token
from pitool.errors import DoesNotFit
from pitool.store.conversation import Answer, Conversation, Notice, Question

RESERVE = 256
"""Tokens that an answer should find free, or a quarter of the context where that is less."""

MEMORY_SECONDS = 1.0
"""Least time between two looks at the memory while an answer runs."""

RATE_SECONDS = 1.0
"""How far back the present speed looks."""


NOTHING = ChatPrompt(())


@dataclass(frozen=True, slots=True)
class PromptStyle:
    """How a conversation becomes a prompt.

    ``raw``: its texts follow each other without the chat template; ``empty_system``: a system
    prompt without words is sent too, where the template would else put its own. ``before``: what
    it begins with, such as a prompt that was read before: its turns, and its tools. A system prompt
    of the conversation's own takes the place of one there.
    """

    raw: bool = False
    empty_system: bool = False
    before: ChatPrompt = NOTHING


CHAT = PromptStyle()
"""By the chat template, where the model has one."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A prompt and how many of the oldest rows it leaves out."""

    prompt: Prompt
    dropped: int


def fit(
    engine: Engine,
    conversation: Conversation,
    answer: Answer,
    *,
    drop: bool,
    style: PromptStyle = CHAT,
) -> Fitted:
    """Return the prompt for an answer that is to begin, or to go on where it has a text.

    Where the turns leave too little room the oldest are dropped until half the context is free:
    dropping one at each question would have the whole rest read again each time. DoesNotFit, with
    nothing dropped, where the last question alone is too long.
    """

    def prompt_after(dropped: int) -> Prompt:
        return _prompt(engine, conversation, answer, dropped, style)

    context = engine.info.settings.context
    room = context - min(RESERVE, context // 4)
    prompt = prompt_after(conversation.dropped)
    starts = [
        place
        for place, row in enumerate(conversation.rows)
        if isinstance(row, Question) and place > conversation.dropped
    ]
    if not starts or not drop or len(engine.tokenize(prompt)) <= room:
        return Fitted(prompt, conversation.dropped)
    alone = len(engine.tokenize(prompt_after(starts[-1])))
    if alone >= context:
        raise DoesNotFit(
            f"the question and the system prompt have {alone} tokens, and the context has"
            f" {context}",
            "nothing was dropped: edit the question, or load the model with a larger --context",
        )
    low, high = 0, len(starts)
    while low < high:
        middle = (low + high) // 2
        if len(engine.tokenize(prompt_after(starts[middle]))) <= context // 2:
            high = middle
        else:
            low = middle + 1
    dropped = starts[min(low, len(starts) - 1)]
    return Fitted(prompt_after(dropped), dropped)


def _prompt(
    engine: Engine, conversation: Conversation, answer: Answer, dropped: int, style: PromptStyle
) -> Prompt:
    own = conversation.messages(before=answer, dropped=dropped)
    first = [m for m in style.before.messages if m.role != "system" or not conversation.system]
    messages = [*first, *own] if not conversation.system else [own[0], *first, *own[1:]]
    if style.raw or not engine.info.chat_template:
        return "\n".join(message.content for message in messages) + answer.text
    if style.empty_system and not conversation.system:
        messages.insert(0, Message("system", ""))
    tools = style.before.tools
    turns: Prompt = ChatPrompt(tuple(messages), tools) if tools else messages
    if not answer.text:
        return turns
    return [*engine.tokenize(turns), *_plain(engine, answer.text)]


def _plain(engine: Engine, text: str) -> list[int]:
    """Return the tokens of a text in the middle of a sequence, without what begins one."""
    return engine.tokenize(text)[len(engine.tokenize("")) :]


def dropped_notice(turns: int) -> Notice:
    """Return what is said when turns are left out."""
    noun = "turn is" if turns == 1 else f"{turns} turns are"
    return Notice(
        f"the context is full: the oldest {noun} no longer sent to the model",
        "use /set full stop to end the answer instead",
    )


def full_notice(size: int) -> Notice:
    """Return what is said when an answer ends because there is no room left."""
    return Notice(
        f"the context of {size} tokens is full",
        "use /continue to drop the oldest turns and go on, or /new to start a new conversation",
    )


@dataclass(frozen=True, slots=True)
class Change:
    """What a step changes of the status; ``often`` when many like it come.

    ``dropped``: turns that this prompt leaves out and the one before did not.
    """

    values: dict[str, object] = field(default_factory=dict)
    often: bool = False
    dropped: int = 0


class AnswerStream:
    """Streams one answer into its row, and says with each token what changed of the status."""

    def __init__(
        self,
        engine: Engine,
        conversation: Conversation,
        answer: Answer,
        memory: Callable[[int], int | None],
        style: PromptStyle,
    ) -> None:
        self._engine, self._conversation, self._answer = engine, conversation, answer
        self._memory, self._style = memory, style
        self._phase = Phase.READING
        self._last_memory = 0.0
        self._recent: deque[Timings] = deque()

    def run(self, cancel: threading.Event, restored: float, *, drop: bool) -> Iterator[Change]:
        """Yield a change for every token; the row is complete when this ends.

        ``restored``: seconds that bringing back a saved prefill took, part of the TTFT.
        """
        fitted = fit(self._engine, self._conversation, self._answer, drop=drop, style=self._style)
        left_out = self._conversation.rows[self._conversation.dropped : fitted.dropped]
        if left_out:
            self._conversation.dropped = fitted.dropped
            yield Change(dropped=sum(isinstance(row, Question) for row in left_out))
        told = False
        finish = None
        for token in self._engine.stream(fitted.prompt, self._conversation.sampling):
            if cancel.is_set() and not told:  # stop may have come before the stream began
                self._engine.cancel()
                told = True
            if restored:
                token = _later(token, restored)
                self._answer.reused = token.timings.reused_tokens
            self._answer.add(token)
            finish = token.finish or finish
            yield self._change(token)
        self._answer.finish = finish or "stop"
        yield Change({"memory": self._memory(self._engine.pid)})

    def _change(self, token: Token) -> Change:
        phase = Phase.READING if token.id is None else Phase.ANSWERING
        if token.finish is not None:
            phase = self._phase
        often = token.id is not None and phase is self._phase
        self._phase = phase
        rate = self._rate(token.timings)
        values: dict[str, object] = {"phase": phase, "timings": token.timings, "rate_now": rate}
        now = time.monotonic()
        if now - self._last_memory >= MEMORY_SECONDS:
            self._last_memory = now
            values["memory"] = self._memory(self._engine.pid)
        return Change(values, often)

    def _rate(self, now: Timings) -> float:
        """Return the tokens per second since about a second ago, by the engine's clock."""
        if not now.decoded_tokens:
            return 0.0
        self._recent.append(now)
        while len(self._recent) > 2 and _age(self._recent[1], now) >= RATE_SECONDS:
            self._recent.popleft()
        first = self._recent[0]
        seconds = _age(first, now)
        return (now.decoded_tokens - first.decoded_tokens) / seconds if seconds > 0 else 0.0


def _age(before: Timings, now: Timings) -> float:
    return now.decode_seconds - before.decode_seconds


def _later(token: Token, seconds: float) -> Token:
    """Add what came before the engine's clock began."""
    ttft = token.timings.ttft_seconds
    timings = replace(token.timings, ttft_seconds=ttft + seconds if ttft else 0.0)
    return replace(token, timings=timings)

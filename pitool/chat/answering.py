"""One answer being written: from the prompt that fits to the last token."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from pitool.chat.context import fit
from pitool.chat.status import Phase
from pitool.engine.base import Engine, Timings, Token
from pitool.store.conversation import Answer, Conversation, Question

MEMORY_SECONDS = 1.0
"""Least time between two looks at the memory while an answer runs."""

RATE_SECONDS = 1.0
"""How far back the present speed looks."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a step changes of the status; ``often`` when many like it come.

    ``dropped``: turns that this prompt leaves out and the one before did not.
    """

    values: dict[str, object] = field(default_factory=dict)
    often: bool = False
    dropped: int = 0


class Answering:
    """Streams one answer into its row."""

    def __init__(
        self,
        engine: Engine,
        conversation: Conversation,
        answer: Answer,
        memory: Callable[[int], int | None],
    ) -> None:
        self._engine, self._conversation, self._answer = engine, conversation, answer
        self._memory = memory
        self._phase = Phase.READING
        self._last_memory = 0.0
        self._recent: deque[Timings] = deque()

    def run(self, cancel: threading.Event, restored: float, *, drop: bool) -> Iterator[Change]:
        """Yield a change for every token; the row is complete when this ends.

        ``restored``: seconds that bringing back a saved prefill took, part of the TTFT.
        """
        fitted = fit(self._engine, self._conversation, self._answer, drop=drop)
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

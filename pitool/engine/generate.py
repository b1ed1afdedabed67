"""The way from a prompt to tokens with timings, the same for every runtime.

``Answer`` is what is known of one answer: what to compute next, and what came of it. Progress, stop
texts, limits and the clock are kept here; a runtime only computes. ``generate`` drives one answer
on a runtime that has one sequence; where there are several, ``llamacpp.scheduler`` drives them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from pitool.engine.base import Finish, Sampling, Timings, Token
from pitool.engine.text import TextStream
from pitool.errors import BadInput, DoesNotFit

if TYPE_CHECKING:
    from pitool.engine.probabilities import Probabilities

# ggml's tiled flash attention works on so many tokens at once; fewer take a path that is up to
# four times slower, so that a chunk is never smaller while there are more.
CHUNK_STEP = 64


class Answer:
    """One answer on its way, from a prompt of ``ids`` in a sequence of ``context`` tokens.

    Its steps: ``begin``, then ``read`` for each part of the prompt, then ``choose`` for each token
    of the answer; after any of these it may be ``finished``. ``cancel`` ends it early. ``asked``:
    when the prompt came, by ``time.perf_counter``, where it had to wait since.
    """

    def __init__(
        self, ids: Sequence[int], sampling: Sampling, context: int, asked: float | None = None
    ) -> None:
        check_prompt(ids, context)
        self.ids, self.sampling = ids, sampling
        self.now = Timings(len(ids))
        self.finished = False
        self._context = context
        self._start = time.perf_counter()
        self._asked = self._start if asked is None else asked
        self._first = 0.0
        self._text = TextStream(sampling.stop)
        most = sampling.max_tokens
        self._limit = context if most is None else most
        self._last: int | None = None

    def begin(self, reused: int) -> None:
        """So many tokens of the prompt are in the KV cache already."""
        self.now = replace(self.now, reused_tokens=reused, prefilled_tokens=reused)

    @property
    def reading(self) -> bool:
        """Whether some of the prompt is not in the KV cache yet."""
        return self.now.prefilled_tokens < len(self.ids)

    def part(self, most: int) -> Sequence[int]:
        """Return what is to be appended to the KV cache next: of the prompt, ``most`` tokens."""
        if self._last is not None:
            return (self._last,)
        return self.ids[self.now.prefilled_tokens : self.now.prefilled_tokens + most]

    def read(self, count: int) -> Token:
        """Note that so many tokens of the prompt were appended; return the progress."""
        self.now = replace(
            self.now,
            prefilled_tokens=self.now.prefilled_tokens + count,
            prefill_seconds=time.perf_counter() - self._start,
        )
        if not self.reading and self._limit == 0:
            return self._end("", None, "length")
        return Token("", None, self.now)

    def choose(
        self, token: int, piece: bytes, *, ends: bool, odds: Probabilities | None = None
    ) -> Token:
        """Take the next token of the answer, with its bytes and whether it ends an answer.

        ``odds``: its probability and that of others, where they are asked for.
        """
        told = self._choose(token, piece, ends=ends)
        if odds is None or ends:  # what ends an answer is not part of it
            return told
        return replace(told, chosen=odds.chosen, top=odds.top)

    def _choose(self, token: int, piece: bytes, *, ends: bool) -> Token:
        tick = time.perf_counter()
        if ends:
            return self._end(self._text.finish(), token, "stop")
        count = self.now.decoded_tokens + 1
        if count == 1:
            self._first = tick
            self.now = replace(self.now, ttft_seconds=tick - self._asked)
        self.now = replace(self.now, decoded_tokens=count, decode_seconds=tick - self._first)
        shown = self._text.feed(piece)
        if finish := self._finish(count):
            return self._end(shown + self._text.finish(), token, finish)
        self._last = token
        return Token(shown, token, self.now)

    def cancel(self) -> Token:
        """End it where it is, with the text that was held back."""
        return self._end(self._text.finish(), None, "cancelled")

    def _finish(self, count: int) -> Finish | None:
        if self._text.stopped:
            return "stop"
        if count == self._limit:
            return "length"
        return "context" if self.now.context_used + 1 >= self._context else None

    def _end(self, text: str, token: int | None, finish: Finish) -> Token:
        self.finished = True
        return Token(text, token, self.now, finish)


def check_prompt(ids: Sequence[int], context: int) -> None:
    """Raise BadInput for a prompt without tokens, DoesNotFit for one that fills the context."""
    if not ids:
        raise BadInput("the prompt is empty", "enter a prompt")
    if len(ids) >= context:
        raise DoesNotFit(
            f"the prompt has {len(ids)} tokens, and the context has {context}",
            "shorten it, start a new conversation, or load with a larger --context",
        )


class Runner(Protocol):
    """What a runtime with one sequence must be able to do."""

    @property
    def context(self) -> int:
        """Tokens that the KV cache holds."""

    @property
    def micro_batch(self) -> int:
        """Most tokens of one ``forward``."""

    def reuse(self, ids: Sequence[int]) -> int:
        """Drop from the KV cache what is not a prefix of ``ids``; return what stays, < len."""

    def forward(self, ids: Sequence[int]) -> bool:
        """Append tokens to the KV cache; False when cancelled, the cache then as before."""

    def prepare(self, sampling: Sampling, ids: Sequence[int]) -> None:
        """Get ready to choose tokens after ``ids``."""

    def sample(self) -> int:
        """Choose the next token from the last logits."""

    def odds(self, token: int, count: int) -> Probabilities:
        """Return the probability of a chosen token by the last logits, and of the likeliest."""

    def piece(self, token: int) -> bytes:
        """Return the bytes of a token; special tokens have none."""

    def ends(self, token: int) -> bool:
        """Tell whether the token ends a generation."""


def generate(
    runner: Runner, ids: Sequence[int], sampling: Sampling, cancelled: Callable[[], bool]
) -> Iterator[Token]:
    """Yield the steps of one answer; DoesNotFit when the prompt fills the context."""
    answer = Answer(ids, sampling, runner.context)
    answer.begin(runner.reuse(ids))
    while answer.reading:
        left = len(ids) - answer.now.prefilled_tokens
        part = answer.part(next_chunk(left, answer.now.prefill_rate, runner.micro_batch))
        if not runner.forward(part):
            yield answer.cancel()
            return
        yield answer.read(len(part))
    runner.prepare(sampling, ids)
    while not answer.finished:
        token = runner.sample()
        count = sampling.top_logprobs
        odds = None if count is None else runner.odds(token, count)
        yield answer.choose(token, runner.piece(token), ends=runner.ends(token), odds=odds)
        if not answer.finished and (cancelled() or not runner.forward(answer.part(1))):
            yield answer.cancel()


def next_chunk(left: int, rate: float, largest: int, seconds: float = 1.0) -> int:
    """Return how many of ``left`` tokens to prefill at once: ``seconds`` of work at ``rate``.

    Whole steps, and no rest that is smaller than one: a little more or less is taken instead.
    """
    chunk = min(max(int(rate * seconds) // CHUNK_STEP, 1) * CHUNK_STEP, largest)
    rest = left - chunk
    if rest >= CHUNK_STEP:
        return chunk
    if left <= largest:
        return left
    return left - CHUNK_STEP if left >= 2 * CHUNK_STEP else chunk


def shared_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Return how many leading token ids both have."""
    count = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        count += 1
    return count

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

from pitool.engine.base import Finish, Prompt, Sampling, Timings, Token
from pitool.engine.speculation.guesses import Guesser
from pitool.engine.speculation.policy import Speculation
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

    @property
    def left(self) -> int:
        """Tokens that may still come after the one that is computed next."""
        used = self.now.context_used + 1
        return min(self._limit - self.now.decoded_tokens, self._context - used) - 1

    def guessed(self, count: int) -> None:
        """Note that so many tokens were guessed."""
        if count:
            self.now = replace(self.now, guessed_tokens=self.now.guessed_tokens + count)

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
        self,
        token: int,
        piece: bytes,
        *,
        ends: bool,
        odds: Probabilities | None = None,
        guess: Sequence[int] = (),
    ) -> Token:
        """Take the next token of the answer, with its bytes and whether it ends an answer.

        ``odds``: its probability and that of others, where they are asked for; ``guess``: what it
        was guessed to be, nothing where it was not.
        """
        if token in guess:
            self.now = replace(self.now, accepted_tokens=self.now.accepted_tokens + 1)
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

    @property
    def speculation(self) -> Speculation | None:
        """What is known of guesses; None where none are made."""

    def rewind(self, count: int) -> int:
        """Keep the first ``count`` tokens of the KV cache; return how many are left."""

    def forward(self, ids: Sequence[int], rows: int = 1) -> bool:
        """Append tokens to the KV cache; False when cancelled, the cache then as before.

        The logits after the last ``rows`` of them are kept for what follows.
        """

    def prepare(self, sampling: Sampling, ids: Sequence[int]) -> None:
        """Get ready to choose tokens after ``ids``."""

    def sample(self, row: int = 0) -> int:
        """Choose the next token from a row of the last logits."""

    def may_guess(self, last: int) -> bool:
        """Tell whether an answer that goes on with ``last`` stays what plain decode gives."""

    def in_doubt(self, row: int) -> bool:
        """Tell whether rounding may decide which token a greedy answer takes from a row."""

    def odds(self, token: int, count: int, row: int = 0) -> Probabilities:
        """Return the probability of a chosen token by a row of logits, and of the likeliest."""

    def tokenize(self, prompt: Prompt) -> Sequence[int]:
        """Return the token ids of a text."""

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
    decoding = _Decoding(runner, answer)
    while not answer.finished:
        yield from decoding.verify()
        if not answer.finished and (cancelled() or not decoding.forward()):
            yield answer.cancel()


class _Decoding:
    """The passes of one answer after its prompt, with guesses where they pay."""

    def __init__(self, runner: Runner, answer: Answer) -> None:
        self._runner, self._answer = runner, answer
        self._speculation = runner.speculation if answer.sampling.speculate else None
        self._guesser: Guesser | None = None
        if self._speculation is not None:
            prediction = answer.sampling.prediction
            expected = runner.tokenize(prediction) if prediction else ()
            self._guesser = self._speculation.begin(answer.ids, expected)
        self._guessed: Sequence[int] = ()
        self._doubt = False

    def verify(self) -> Iterator[Token]:
        """Yield the tokens of the last pass, up to the first that was not guessed."""
        answer, guessed = self._answer, self._guessed
        self._doubt = False
        for at in range(len(guessed) + 1):
            if guessed and self._runner.in_doubt(at):
                self._doubt = True  # the pass of this token is done again without guesses
                break
            token = self._choose(at, guessed[at : at + 1])
            yield token
            if answer.finished or token.id != next(iter(guessed[at:]), None):
                break
        if guessed:
            self._runner.rewind(answer.now.context_used)

    def _choose(self, row: int, guess: Sequence[int]) -> Token:
        runner, count = self._runner, self._answer.sampling.top_logprobs
        token = runner.sample(row)
        odds = None if count is None else runner.odds(token, count, row)
        if self._guesser is not None:
            self._guesser.chosen(token)
        piece, ends = runner.piece(token), runner.ends(token)
        return self._answer.choose(token, piece, ends=ends, odds=odds, guess=guess)

    def forward(self) -> bool:
        """Compute the next token and guesses at those after it; False when cancelled."""
        self._guessed = self._guess()
        self._answer.guessed(len(self._guessed))
        ids = (*self._answer.part(1), *self._guessed)
        start = time.perf_counter()
        done = self._runner.forward(ids, len(ids))
        if done and self._speculation is not None:
            self._speculation.costs.note(len(ids), time.perf_counter() - start)
        return done

    def _guess(self) -> Sequence[int]:
        if self._speculation is None or self._guesser is None:
            return ()
        if not self._runner.may_guess(self._answer.part(1)[0]):
            return ()
        most = 0 if self._doubt else self._answer.left
        return self._speculation.guess(self._guesser, most)


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

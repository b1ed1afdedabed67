"""The loop from a prompt to tokens with timings, the same for every runtime.

A runtime gives the five steps of ``Runner``; prefix reuse, progress, stop texts, limits and the
clock are kept here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from pitool.engine.base import Finish, Sampling, Timings, Token
from pitool.engine.text import TextStream
from pitool.errors import DoesNotFit

# ggml's tiled flash attention works on so many tokens at once; fewer take a path that is up to
# four times slower, so that a chunk is never smaller while there are more.
CHUNK_STEP = 64


class Runner(Protocol):
    """What a runtime must be able to do, one sequence at a time."""

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

    def piece(self, token: int) -> bytes:
        """Return the bytes of a token; special tokens have none."""

    def ends(self, token: int) -> bool:
        """Tell whether the token ends a generation."""


def generate(
    runner: Runner, ids: Sequence[int], sampling: Sampling, cancelled: Callable[[], bool]
) -> Iterator[Token]:
    """Yield the steps of one answer; DoesNotFit when the prompt fills the context."""
    if len(ids) >= runner.context:
        raise DoesNotFit(
            f"the prompt has {len(ids)} tokens, and the context has {runner.context}",
            "shorten it, start a new conversation, or load with a larger --context",
        )
    start = time.perf_counter()
    reused = runner.reuse(ids)
    now = Timings(len(ids), reused, reused)
    while now.prefilled_tokens < len(ids):
        left = len(ids) - now.prefilled_tokens
        chunk = next_chunk(left, now.prefill_rate, runner.micro_batch)
        part = ids[now.prefilled_tokens : now.prefilled_tokens + chunk]
        if not runner.forward(part):
            yield Token("", None, now, "cancelled")
            return
        done, seconds = now.prefilled_tokens + len(part), time.perf_counter() - start
        now = replace(now, prefilled_tokens=done, prefill_seconds=seconds)
        yield Token("", None, now)
    runner.prepare(sampling, ids)
    yield from _decode(runner, sampling, now, start, cancelled)


def _decode(
    runner: Runner,
    sampling: Sampling,
    now: Timings,
    start: float,
    cancelled: Callable[[], bool],
) -> Iterator[Token]:
    text = TextStream(sampling.stop)
    first = 0.0
    limit = sampling.max_tokens if sampling.max_tokens is not None else runner.context
    for count in range(1, limit + 1):
        token = runner.sample()
        tick = time.perf_counter()
        if runner.ends(token):
            yield Token(text.finish(), token, now, "stop")
            return
        if count == 1:
            first = tick
            now = replace(now, ttft_seconds=tick - start)
        now = replace(now, decoded_tokens=count, decode_seconds=tick - first)
        shown = text.feed(runner.piece(token))
        finish: Finish | None = None
        if text.stopped:
            finish = "stop"
        elif count == limit:
            finish = "length"
        elif now.context_used + 1 >= runner.context:
            finish = "context"
        if finish:
            yield Token(shown + text.finish(), token, now, finish)
            return
        yield Token(shown, token, now)
        if cancelled() or not runner.forward([token]):
            yield Token(text.finish(), None, now, "cancelled")
            return
    yield Token("", None, now, "length")


def next_chunk(left: int, rate: float, largest: int) -> int:
    """Return how many of ``left`` tokens to prefill at once: about a second's worth at ``rate``.

    Whole steps, and no rest that is smaller than one: a little more or less is taken instead.
    """
    chunk = min(max(int(rate) // CHUNK_STEP, 1) * CHUNK_STEP, largest)
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

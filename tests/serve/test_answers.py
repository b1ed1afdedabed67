"""Tokens that came together are one step of an answer, as far as they say one kind of thing."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Sequence
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pitool.chat_format import AnswerParser, format_of
from pitool.engine.base import Prompt, Sampling, Timings, Token, TokenProbability
from pitool.serve.answers import Parser, Plain, Step, Whole, steps
from pitool.serve.turns import Turn

PIECES = ["<think>", "Let", " me", " see", "</", "think>", "\n\n", "Four", " boards", "."]


class Batches:
    """A turn whose tokens come in batches."""

    def __init__(self, tokens: Sequence[Token], sizes: Sequence[int]) -> None:
        self._tokens, self._sizes = list(tokens), sizes

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Sequence[Token]]:
        for size in itertools.cycle(self._sizes):
            if not self._tokens:
                return
            yield self._tokens[:size]
            del self._tokens[:size]


def tokens_of(pieces: Sequence[str], odds: TokenProbability | None = None) -> list[Token]:
    timings = [Timings(3, decoded_tokens=at) for at in range(1, len(pieces) + 1)]
    both = enumerate(zip(pieces, timings, strict=True))
    return [
        *(Token(piece, at, t, chosen=odds) for at, (piece, t) in both),
        Token("", None, timings[-1], "stop"),
    ]


async def said(tokens: Sequence[Token], sizes: Sequence[int], parser: Parser) -> list[Step]:
    turn = cast("Turn", Batches(tokens, sizes))
    return [step async for step in steps(turn, "", Sampling(), parser)]


def gathered(found: Sequence[Step]) -> Whole:
    whole = Whole()
    for step in found:
        whole.add(step)
    return whole


@given(st.lists(st.integers(1, 12), min_size=1, max_size=4))
async def test_an_answer_is_the_same_however_its_tokens_came(sizes: list[int]) -> None:
    def parser() -> Parser:
        return AnswerParser(format_of("{{ '<think>' }}{{ '</think>' }}"))

    tokens = tokens_of(PIECES)
    one_by_one = await said(tokens, [1], parser())
    together = await said(tokens, sizes, parser())
    assert len(together) <= len(one_by_one)
    assert gathered(together) == gathered(one_by_one)
    assert gathered(together).reasoning.strip() == "Let me see"
    assert gathered(together).content.strip() == "Four boards."


async def test_a_batch_of_content_is_one_step() -> None:
    found = await said(tokens_of(["a", "b", "c", "d", "e"]), [3], Plain())
    assert [[getattr(e, "text", "") for e in step.events] for step in found] == [
        ["abc"], ["de"],
    ]  # fmt: skip
    assert [step.token.timings.decoded_tokens for step in found] == [3, 5]
    assert found[-1].token.finish == "stop"


async def test_tokens_with_probabilities_stay_apart() -> None:
    odds = TokenProbability(1, b"x", -0.5)
    found = await said(tokens_of(["a", "b", "c"], odds), [8], Plain())
    assert [step.token.text for step in found if step.token.chosen] == ["a", "b", "c"]
    assert len(gathered(found).tokens) == 3


async def test_an_error_comes_after_what_was_said_before_it() -> None:
    class Broken(Batches):
        async def stream(
            self, prompt: Prompt, sampling: Sampling
        ) -> AsyncGenerator[Sequence[Token]]:
            yield tokens_of(["a", "b"])[:2]
            raise ValueError("gone")

    heard = []
    with pytest.raises(ValueError, match="gone"):
        async for step in steps(cast("Turn", Broken([], [])), "", Sampling(), Plain()):
            heard.append(step.events)
    assert len(heard) == 1

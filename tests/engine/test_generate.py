"""The generation loop against a runner that only counts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pitool.engine.base import Prompt, Sampling, Token, TokenProbability
from pitool.engine.generate import generate, shared_prefix
from pitool.engine.probabilities import Probabilities
from pitool.errors import DoesNotFit

END = 99


class Counting:
    """Answers 1, 2, 3 and so on; ``stop_after`` tokens comes the end token."""

    def __init__(self, context: int = 64, micro_batch: int = 8, stop_after: int = 1000) -> None:
        self.context, self.micro_batch, self._stop_after = context, micro_batch, stop_after
        self.cache: list[int] = []
        self.calls: list[int] = []
        self.cancel_at: int | None = None
        self._sampled = 0

    def reuse(self, ids: Sequence[int]) -> int:
        self.cache = self.cache[: shared_prefix(self.cache, ids[:-1])]
        return len(self.cache)

    speculation = None

    def rewind(self, count: int) -> int:
        del self.cache[count:]
        return len(self.cache)

    def may_guess(self, last: int) -> bool:
        raise AssertionError("nothing is guessed")

    def in_doubt(self, row: int) -> bool:
        raise AssertionError("nothing was guessed")

    def forward(self, ids: Sequence[int], rows: int = 1) -> bool:
        if self.cancel_at is not None and len(self.calls) >= self.cancel_at:
            return False
        self.calls.append(len(ids))
        self.cache.extend(ids)
        assert len(self.cache) <= self.context
        return True

    def prepare(self, sampling: Sampling, ids: Sequence[int]) -> None:
        self._sampled = 0

    def sample(self, row: int = 0) -> int:
        self._sampled += 1
        return END if self._sampled > self._stop_after else self._sampled

    def tokenize(self, prompt: Prompt) -> Sequence[int]:
        raise AssertionError("nothing is predicted")

    def piece(self, token: int) -> bytes:
        return f"{token} ".encode()

    def ends(self, token: int) -> bool:
        return token == END

    def odds(self, token: int, count: int, row: int = 0) -> Probabilities:
        likely = [TokenProbability(i, self.piece(i), -float(i)) for i in range(count)]
        return Probabilities(TokenProbability(token, self.piece(token), -0.5), tuple(likely))


def run(runner: Counting, ids: Sequence[int], **sampling: object) -> list[Token]:
    return list(generate(runner, ids, Sampling(**sampling), lambda: False))  # type: ignore[arg-type]


def test_the_prompt_is_read_in_parts_and_each_is_told() -> None:
    runner = Counting()
    tokens = run(runner, range(20), max_tokens=1)
    reading = [t.timings.prefilled_tokens for t in tokens if t.id is None]
    assert reading == [8, 16, 20]
    assert runner.calls == [8, 8, 4]


def test_a_prefix_that_is_in_the_cache_is_not_read_again() -> None:
    runner = Counting()
    run(runner, range(20), max_tokens=1)
    runner.calls.clear()
    tokens = run(runner, [*range(15), 77, 78], max_tokens=1)
    assert runner.calls == [2]
    assert tokens[-1].timings.reused_tokens == 15
    assert tokens[-1].timings.prompt_tokens == 17


def test_the_same_prompt_again_reads_its_last_token_for_its_logits() -> None:
    runner = Counting()
    run(runner, range(20), max_tokens=1)
    runner.calls.clear()
    assert run(runner, range(20), max_tokens=1)[-1].timings.reused_tokens == 19
    assert runner.calls == [1]


def test_finish_tells_why() -> None:
    assert run(Counting(), range(4), max_tokens=3)[-1].finish == "length"
    assert run(Counting(stop_after=2), range(4))[-1].finish == "stop"
    assert run(Counting(context=8), range(4))[-1].finish == "context"
    assert run(Counting(), range(4), stop=("3 ",))[-1].finish == "stop"


def test_text_and_ids_are_those_of_the_runner() -> None:
    tokens = run(Counting(stop_after=3), range(4))
    assert "".join(t.text for t in tokens) == "1 2 3 "
    assert [t.id for t in tokens if t.id is not None] == [1, 2, 3, END]
    assert tokens[-1].timings.decoded_tokens == 3


def test_the_stop_text_is_not_shown() -> None:
    tokens = run(Counting(), range(4), stop=("3 4",))
    assert "".join(t.text for t in tokens) == "1 2 "


def test_the_context_is_never_overrun() -> None:
    runner = Counting(context=12)
    last = run(runner, range(10))[-1]
    assert last.finish == "context"
    assert last.timings.context_used < runner.context
    assert last.timings.decoded_tokens == 2


def test_a_prompt_that_fills_the_context_is_refused() -> None:
    with pytest.raises(DoesNotFit, match="12 tokens, and the context has 12"):
        run(Counting(context=12), range(12))


def test_a_cancel_while_reading_ends_without_a_token() -> None:
    runner = Counting()
    runner.cancel_at = 1
    tokens = run(runner, range(20))
    assert [t.finish for t in tokens] == [None, "cancelled"]
    assert tokens[-1].timings.prefilled_tokens == 8


def test_a_cancel_while_decoding_keeps_what_was_said() -> None:
    runner = Counting()
    steps = generate(runner, range(4), Sampling(), lambda: len(runner.cache) >= 7)
    tokens = list(steps)
    assert tokens[-1].finish == "cancelled"
    assert "".join(t.text for t in tokens) == "1 2 3 4 "


def test_rates_count_steps_and_not_tokens() -> None:
    tokens = run(Counting(stop_after=5), range(4))
    t = tokens[-1].timings
    assert t.decode_rate == pytest.approx(4 / t.decode_seconds)
    assert t.prefill_rate == pytest.approx(4 / t.prefill_seconds)
    assert t.ttft_seconds >= t.prefill_seconds


def test_probabilities_come_with_the_tokens_of_the_answer_where_they_are_asked_for() -> None:
    assert all(token.chosen is None for token in run(Counting(), [5], max_tokens=2))
    tokens = run(Counting(stop_after=2), [5], top_logprobs=2)
    reading, first, second, end = tokens
    assert (reading.chosen, reading.top, end.chosen) == (None, (), None)
    assert first.logprob == -0.5
    assert first.chosen == TokenProbability(1, b"1 ", -0.5)
    assert second.top == (TokenProbability(0, b"0 ", 0.0), TokenProbability(1, b"1 ", -1.0))
    last = run(Counting(), [5], top_logprobs=0, max_tokens=1)[-1]
    assert (last.finish, last.chosen, last.top) == ("length", TokenProbability(1, b"1 ", -0.5), ())

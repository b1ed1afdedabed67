"""Guessed tokens change no answer: greedy ids, seeded draws, the distribution, and what is kept."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pitool.engine import worker
from pitool.engine.base import Engine, Message, Prompt, Sampling, Settings, Token
from pitool.engine.llamacpp import LlamaCpp
from pitool.engine.onnx import Onnx
from pitool.engine.scheduling import Heard
from pitool.engine.speculation.draft import use_draft
from pitool.engine.speculation.guesses import Guesser
from pitool.engine.speculation.pass_costs import SIZES, Costs, Offer
from pitool.errors import UsageError
from pitool.grammar import grammar_of_schema
from tests.convert.helpers import write_float
from tests.engine.onnx_graph import write_folder
from tests.engine.test_recurrent import write_checkpoint

pytestmark = pytest.mark.engine

SAMPLE = Path(__file__).parents[2] / "recipes" / "sample" / "checkpoint"
# Passes of several tokens cost as one, so that whatever is likely at all is guessed.
FREE = tuple((size, 1.0) for size in (1, *SIZES))
# In float32 all sums of the tiny models are as exact as they can be.
PLAIN = Settings(512, decode_threads=1, prefill_threads=1, kv_type="f32", flash_attention="off")
GUESSING = replace(PLAIN, guesses=15, costs=FREE)
GREEDY = Sampling(temperature=0, max_tokens=60)
KINDS: dict[str, Callable[[Path, Settings], Engine]] = {"gguf": LlamaCpp, "onnx": Onnx}
BOARDS = "Pi 5: 8 GB\nPi 5: 16 GB\n" * 10  # is answered with sixty tokens
PROMPTS: Sequence[Prompt] = (
    BOARDS,
    "1 2 3 4 5 6 7 8 " * 8,
    "The quick brown fox",
    [Message("user", "What is a Raspberry Pi?")],
    [Message("user", "Say this again: the board has four cores and a little memory.")],
)


@pytest.fixture(autouse=True)
def costs_that_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let guesses be made on a busy machine too, where passes seem dear."""
    note = Costs.note

    def note_one(costs: Costs, tokens: int, seconds: float) -> None:
        if tokens == 1:
            note(costs, tokens, seconds)

    monkeypatch.setattr(Costs, "note", note_one)


@pytest.fixture(scope="module")
def sample_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample model, which was trained, in float32."""
    return write_float(SAMPLE, tmp_path_factory.mktemp("sample") / "sample.gguf", "F32")


@pytest.fixture(scope="module")
def sample_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(SAMPLE, tmp_path_factory.mktemp("sample") / "onnx")


@pytest.fixture(scope="module", params=["gguf", "onnx"])
def both(request: pytest.FixtureRequest) -> Iterator[tuple[Engine, Engine]]:
    """The sample model without guesses and with them, on each runtime."""
    path = request.getfixturevalue(f"sample_{request.param}")
    plain, guessing = KINDS[request.param](path, PLAIN), KINDS[request.param](path, GUESSING)
    yield plain, guessing
    plain.close()
    guessing.close()


def ids(tokens: Sequence[Token]) -> list[int]:
    return [t.id for t in tokens if t.id is not None]


def answer(engine: Engine, prompt: Prompt, sampling: Sampling) -> list[Token]:
    engine.clear()
    return list(engine.stream(prompt, sampling))


def both_answers(
    both: tuple[Engine, Engine], prompt: Prompt, sampling: Sampling = GREEDY
) -> Iterator[tuple[list[Token], list[Token]]]:
    """Yield the plain answer with one with guesses: from the text so far, and from what comes.

    The sample model repeats little; that an answer is as expected makes most guesses hold.
    """
    plain, guessing = both
    wanted = answer(plain, prompt, sampling)
    assert wanted[-1].timings.guessed_tokens == 0
    for expected in ("", "".join(token.text for token in wanted)):
        yield wanted, answer(guessing, prompt, replace(sampling, prediction=expected))


@pytest.mark.thorough
def test_greedy_ids_are_those_of_plain_decode(both: tuple[Engine, Engine]) -> None:
    accepted = 0
    for prompt in PROMPTS:
        for wanted, found in both_answers(both, prompt):
            assert ids(found) == ids(wanted)
            assert "".join(t.text for t in found) == "".join(t.text for t in wanted)
            assert found[-1].finish == wanted[-1].finish
            accepted += found[-1].timings.accepted_tokens
    assert accepted > 100


@pytest.mark.thorough
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(seed=3, max_tokens=60),
        Sampling(seed=4, max_tokens=60, repeat_penalty=1.2, frequency_penalty=0.1),
        Sampling(temperature=0, max_tokens=60, presence_penalty=0.5),
        Sampling(seed=5, max_tokens=60, top_k=0, top_p=1, min_p=0, logit_bias=((7, 2.0),)),
    ],
)
def test_a_seed_gives_the_answer_that_it_gives_without_guesses(
    both: tuple[Engine, Engine], sampling: Sampling
) -> None:
    accepted = 0
    for prompt in PROMPTS:
        for wanted, found in both_answers(both, prompt, sampling):
            assert ids(found) == ids(wanted)
            accepted += found[-1].timings.accepted_tokens
    assert accepted > 50


class Wrong(Guesser):
    """Is as sure as can be, and wrong."""

    def offer(self, most: int, costs: Costs) -> Offer:
        tokens = [3 + (len(self._ngrams.tokens) * 7 + at) % 200 for at in range(most)]
        return Offer([1.0] * most, lambda count: tokens[:count])


@pytest.mark.thorough
def test_wrong_guesses_change_nothing(
    both: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, guessing = both
    monkeypatch.setattr("pitool.engine.speculation.policy.Guesser", Wrong)
    for prompt in PROMPTS:
        found = answer(guessing, prompt, GREEDY)
        assert ids(found) == ids(answer(plain, prompt, GREEDY))
        assert found[-1].timings.guessed_tokens > found[-1].timings.accepted_tokens
        # What was wrong is gone: the same prompt goes on from what is there.
        again = list(guessing.stream(prompt, GREEDY))
        assert ids(again) == ids(found)
        assert again[-1].timings.reused_tokens == again[-1].timings.prompt_tokens - 1


def test_log_probabilities_are_those_of_plain_decode(both: tuple[Engine, Engine]) -> None:
    *_, (wanted, found) = both_answers(both, BOARDS, replace(GREEDY, top_logprobs=3))
    assert found[-1].timings.accepted_tokens > 20
    # Reading the prompt may take several steps on a busy machine.
    said = ([token for token in tokens if token.id is not None] for tokens in (wanted, found))
    for one, other in zip(*said, strict=True):
        assert [t.id for t in one.top] == [t.id for t in other.top]
        if one.logprob is not None and other.logprob is not None:
            assert other.logprob == pytest.approx(one.logprob, abs=1e-3)


@pytest.mark.parametrize("most", [1, 2, 3, 5, 17])
def test_no_more_tokens_come_than_are_asked_for(both: tuple[Engine, Engine], most: int) -> None:
    for wanted, found in both_answers(both, BOARDS, replace(GREEDY, max_tokens=most)):
        assert len(ids(found)) == most
        assert ids(found) == ids(wanted)
        assert found[-1].finish == wanted[-1].finish == "length"


def test_the_context_ends_where_it_does_without_guesses(both: tuple[Engine, Engine]) -> None:
    plain, _ = both
    text = plain.tokenize(BOARDS * 5)[:500]
    for wanted, found in both_answers(both, text, replace(GREEDY, max_tokens=None)):
        assert ids(found) == ids(wanted)
        assert found[-1].finish == wanted[-1].finish == "context"
        assert found[-1].timings.context_used == wanted[-1].timings.context_used


def test_a_stop_text_ends_it_among_guesses(both: tuple[Engine, Engine]) -> None:
    plain, _ = both
    text = "".join(t.text for t in answer(plain, BOARDS, GREEDY))
    stop = text[len(text) // 2 :][:6]
    for wanted, found in both_answers(both, BOARDS, replace(GREEDY, stop=(stop,))):
        assert found[-1].finish == "stop"
        assert "".join(t.text for t in found) == text[: text.index(stop)]
        assert ids(found) == ids(wanted)


def chi_square(counts: Counter[int], shares: dict[int, float]) -> float:
    total = sum(counts.values())
    return sum((counts[k] - total * p) ** 2 / (total * p) for k, p in shares.items())


def softmax(logits: np.ndarray, temperature: float, top_k: int) -> dict[int, float]:
    """Return the probabilities that top-k and a temperature leave, by hand."""
    kept = np.argsort(-logits)[:top_k]
    weights = np.exp((logits[kept].astype(np.float64) - logits.max()) / temperature)
    return {int(k): float(w) for k, w in zip(kept, weights / weights.sum(), strict=True)}


@pytest.mark.thorough
def test_draws_have_the_distribution_of_the_model(
    both: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the second token, for which the likeliest is guessed, over all first ones.

    Expected is what the model's own logits give; the bound is five deviations of chi-square.
    """
    _, engine = both
    runs, top_k = 1000, 6
    prompt = engine.tokenize("a b c d e f g h " * 6)
    warm = Sampling(temperature=2.5, top_k=top_k, top_p=1, min_p=0, max_tokens=3)
    expected: Counter[int] = Counter()
    ends = engine._vocabulary.ends  # type: ignore[attr-defined]
    for first, share in softmax(engine.logits(prompt)[-1], 2.5, top_k).items():
        if ends(first):
            continue
        for second, p in softmax(engine.logits([*prompt, first])[-1], 2.5, top_k).items():
            expected[second] += share * p  # type: ignore[assignment]
    likeliest = max(expected, key=lambda token: expected[token])

    class Likely(Guesser):
        def offer(self, most: int, costs: Costs) -> Offer:
            return Offer([1.0] * min(most, 1), lambda count: [likeliest] * count)

    monkeypatch.setattr("pitool.engine.speculation.policy.Guesser", Likely)
    counts: Counter[int] = Counter()
    guessed = accepted = 0
    for seed in range(runs):
        tokens = list(engine.stream(prompt, replace(warm, seed=seed)))
        found = ids(tokens)
        if len(found) > 1:
            counts[found[1]] += 1
        guessed += tokens[-1].timings.guessed_tokens
        accepted += tokens[-1].timings.accepted_tokens
    assert guessed > 0.8 * runs
    assert 0.05 * guessed < accepted < 0.95 * guessed
    whole = sum(expected.values())
    common = {k: p / whole for k, p in expected.items() if p * runs > 8}
    rest = 1 - sum(common.values())
    shares = {**common, -1: rest} if rest * runs > 8 else common
    seen = Counter({k: n for k, n in counts.items() if k in common})
    seen[-1] = sum(counts.values()) - sum(seen.values())
    freedom = len(shares) - 1
    bound = freedom + 5 * (2 * freedom) ** 0.5
    assert freedom >= 4
    assert chi_square(seen, shares) < bound
    # A tenth more of the likeliest token than there should be would be seen.
    biased = Counter({k: round(n * 0.9) for k, n in seen.items()})
    biased[likeliest] += runs // 10
    assert chi_square(biased, shares) > bound


def test_a_grammar_holds_among_guesses(sample_gguf: Path) -> None:
    schema = {"type": "object", "required": ["a", "b"], "additionalProperties": False,
              "properties": {"a": {"enum": ["red", "blue"]}, "b": {"type": "boolean"}}}  # fmt: skip
    prompt = '{"a": "red", "b": true} {"a": "blue", "b": false} {"a": "red", "b": true} '
    found = []
    for settings in (PLAIN, GUESSING):
        engine = LlamaCpp(sample_gguf, settings)
        for sampling in (GREEDY, Sampling(seed=1, max_tokens=60)):
            strict = replace(sampling, grammar=grammar_of_schema(schema))
            tokens = answer(engine, prompt, strict)
            found.append((ids(tokens), "".join(t.text for t in tokens)))
        engine.close()
    assert found[:2] == found[2:]
    assert all(set(json.loads(text)) == {"a", "b"} for _, text in found)


@pytest.mark.thorough
def test_close_calls_are_computed_without_guesses(
    both: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a margin that no token reaches, each is computed alone, and the answer is the same."""
    _, guessing = both
    path = "llamacpp.guessing" if isinstance(guessing, LlamaCpp) else "onnx.engine"
    monkeypatch.setattr(f"pitool.engine.{path}.close_call", lambda *_: True)
    monkeypatch.setattr(guessing, "_margin", 1e-9, raising=False)
    if isinstance(guessing, LlamaCpp):
        margins = {False: 1e-9, True: 1e-9}
        monkeypatch.setattr(guessing.scheduler._guessing, "_margins", margins)
    *_, (wanted, found) = both_answers(both, BOARDS)
    assert ids(found) == ids(wanted)
    assert found[-1].timings.accepted_tokens == 0
    assert found[-1].timings.guessed_tokens > 0
    *_, (wanted, drawn) = both_answers(both, BOARDS, Sampling(seed=1, max_tokens=60))
    assert ids(drawn) == ids(wanted)
    assert drawn[-1].timings.accepted_tokens > 0  # a draw has no margin


def test_greedy_answers_are_not_guessed_where_rounding_would_change_them(
    both: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, guessing = both
    margins = {False: 1.0, True: 1.0}
    if isinstance(guessing, LlamaCpp):
        monkeypatch.setattr(guessing.scheduler._guessing, "_margins", margins)
    else:
        monkeypatch.setattr(guessing, "_margin", 1.0)
    *_, (_, found) = both_answers(both, BOARDS)
    assert found[-1].timings.guessed_tokens == 0
    *_, (_, drawn) = both_answers(both, BOARDS, Sampling(seed=1, max_tokens=60))
    assert drawn[-1].timings.accepted_tokens > 0


def test_it_is_tried_whether_several_rows_are_computed_as_one(sample_gguf: Path) -> None:
    """In float32 the sums differ in their last bits; llama.cpp's own cells are as they were."""
    engine = LlamaCpp(sample_gguf, GUESSING)
    prompt = engine.tokenize(BOARDS)
    list(engine.stream(prompt, replace(GREEDY, max_tokens=1)))
    slot = engine._sequences.slots[0]
    found = engine._passes.difference(slot, prompt[-8:])
    assert found is not None
    assert 0 <= found < 1e-3
    assert slot.tokens == prompt[: len(slot.tokens)]
    # With a kernel that is off by a thousandth for several rows, that is what is seen.
    real, rows = engine._passes._logits, iter(range(100))
    engine._passes._logits = lambda row: real(row) + (1e-3 if next(rows) < 8 else 0.0)
    off = engine._passes.difference(slot, prompt[-8:])
    assert off == pytest.approx(1e-3, rel=0.5)
    engine.close()


def test_an_answer_may_ask_for_no_guesses(both: tuple[Engine, Engine]) -> None:
    _, guessing = both
    found = answer(guessing, BOARDS, replace(GREEDY, speculate=False))
    assert found[-1].timings.guessed_tokens == 0


def test_several_clients_get_what_each_gets_alone(sample_gguf: Path) -> None:
    one = LlamaCpp(sample_gguf, PLAIN)
    drawn = Sampling(seed=7, max_tokens=60)
    plain = [answer(one, prompt, drawn) for prompt in PROMPTS]
    wanted = [ids(tokens) for tokens in plain]
    one.close()
    engine = LlamaCpp(sample_gguf, replace(GUESSING, context=4 * 512, sequences=4))
    heard = [Heard() for _ in PROMPTS]
    for prompt, tokens, each in zip(PROMPTS, plain, heard, strict=True):
        expected = "".join(token.text for token in tokens)
        engine.scheduler.add(prompt, replace(drawn, prediction=expected), each)
    while engine.scheduler.busy:
        engine.scheduler.step()
    found = [list(each.take()) for each in heard]
    assert [ids(tokens) for tokens in found] == wanted
    assert sum(tokens[-1].timings.accepted_tokens for tokens in found) > 5  # of the last one left
    engine.close()


def test_the_next_turn_goes_on_with_what_is_there(sample_gguf: Path) -> None:
    engine = LlamaCpp(sample_gguf, GUESSING)
    first = [*engine.tokenize(BOARDS)]
    found = ids(list(engine.stream(first, GREEDY)))
    tokens = list(engine.stream([*first, *found, 5, 6], replace(GREEDY, max_tokens=4)))
    assert tokens[-1].timings.reused_tokens >= len(first) + len(found) - 1
    again = LlamaCpp(sample_gguf, PLAIN)
    assert ids(list(again.stream([*first, *found, 5, 6], replace(GREEDY, max_tokens=4)))) == ids(
        tokens
    )
    engine.close()
    again.close()


def test_a_recurrent_model_says_why_nothing_is_guessed(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "lfm2", "lfm2")
    engine = LlamaCpp(
        write_float(folder, tmp_path / "m.gguf", "F32"), replace(GUESSING, context=256)
    )
    assert "recurrent state" in engine.info.no_guesses
    found = list(engine.stream([5, 9, 5, 9, 5, 9, 5], replace(GREEDY, max_tokens=12)))
    assert found[-1].timings.guessed_tokens == 0
    engine.close()


def test_a_graph_of_one_row_says_why_nothing_is_guessed(
    sample_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pitool.engine.onnx.graph.Graph.gives_rows", False)
    engine = Onnx(sample_onnx, GUESSING)
    assert "last token only" in engine.info.no_guesses
    assert answer(engine, BOARDS, GREEDY)[-1].timings.guessed_tokens == 0
    engine.close()


@pytest.mark.parametrize("draft", ["gguf", "onnx"])
def test_a_draft_model_that_is_the_model_itself_is_always_right(
    both: tuple[Engine, Engine],
    draft: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where its guesses take no time: else a model as large as the other is not worth asking."""
    plain, _ = both
    monkeypatch.setattr(
        "pitool.engine.speculation.guesses.time", SimpleNamespace(perf_counter=lambda: 0.0)
    )
    form = "gguf" if isinstance(plain, LlamaCpp) else "onnx"
    settings = replace(GUESSING, draft=(draft, str(request.getfixturevalue(f"sample_{draft}"))))
    engine = KINDS[form](request.getfixturevalue(f"sample_{form}"), settings)
    use_draft(engine, settings)
    prompt = [Message("user", "Tell me about the board and its memory.")]
    for sampling in (GREEDY, Sampling(seed=9, max_tokens=60)):
        found = answer(engine, prompt, sampling)
        assert ids(found) == ids(answer(plain, prompt, sampling))
        assert found[-1].timings.guessed_tokens > 10
        if sampling is GREEDY:
            share = found[-1].timings.accepted_tokens / found[-1].timings.guessed_tokens
            assert share > 0.8  # what was guessed behind the end is lost
    engine.close()


def test_a_draft_model_of_other_tokens_is_refused(sample_gguf: Path, tiny_gguf: Path) -> None:
    settings = replace(GUESSING, draft=("gguf", str(tiny_gguf)))
    with pytest.raises(UsageError, match="another vocabulary"):
        worker.start("gguf", sample_gguf, settings)
    with pytest.raises(UsageError, match="leave out --draft"):
        worker.start("gguf", sample_gguf, replace(settings, guesses=0))


def test_settings_and_counts_reach_a_worker_and_come_back(sample_gguf: Path) -> None:
    settings = replace(GUESSING, draft=("gguf", str(sample_gguf)))
    with worker.start("gguf", sample_gguf, settings) as engine:
        assert engine.info.settings == settings
        found = answer(engine, BOARDS, GREEDY)
        assert found[-1].timings.accepted_tokens > 20  # of a draft model that is the model
        seconds = engine.time_passes((1, 4, 16))
        assert len(seconds) == 3
        assert all(each > 0 for each in seconds)

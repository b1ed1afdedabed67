"""The real engine on a tiny model: state, sampling, cancel, and what a bad file gives."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from pitool.engine import worker
from pitool.engine.base import Engine, Message, Sampling, Settings, Token
from pitool.errors import BadInput, WorkerDied
from tests.engine.rewinding import check_rewinding

pytestmark = pytest.mark.engine

SETTINGS = Settings(context=256, decode_threads=1, prefill_threads=1, outputs=32)
GREEDY = Sampling(temperature=0, max_tokens=24)
PROMPT = "The quick brown fox"
END = 2  # of the tiny checkpoint


@pytest.fixture(scope="module")
def engine(tiny_gguf: Path) -> Iterator[Engine]:
    with worker.start("gguf", tiny_gguf, SETTINGS) as started:
        yield started


def answer(engine: Engine, prompt: object, sampling: Sampling) -> list[Token]:
    return list(engine.stream(prompt, sampling))  # type: ignore[arg-type]


def ids(tokens: list[Token]) -> list[int]:
    return [t.id for t in tokens if t.id is not None]


def greedy_by_logits(engine: Engine, prompt: list[int], count: int) -> list[int]:
    """Greedy generation without a KV cache: the whole text again for each token."""
    text = list(prompt)
    for _ in range(count):
        text.append(int(engine.logits(text)[-1].argmax()))
    return text[len(prompt) :]


def test_tokens_are_those_of_the_tokenizers_library(engine: Engine, tiny_checkpoint: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_checkpoint / "tokenizer.json"))
    for text in ("", "It's 2026!\n\n  x", "naïve café 日本語 🚀", "<|im_start|>user\nHi<|im_end|>"):
        assert engine.tokenize(text) == tokenizer.encode(text).ids
        assert engine.detokenize(tokenizer.encode(text).ids) == text


def test_a_conversation_goes_through_the_template(engine: Engine) -> None:
    found = engine.detokenize(engine.tokenize([Message("user", "Hi")]))
    assert found == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.thorough
def test_answers_written_together_are_those_written_alone(tiny_gguf: Path) -> None:
    settings = replace(SETTINGS, context=4 * 256, outputs=4, sequences=4)
    prompts = ["The quick brown fox", "It's", "a" * 90, "\u65e5\u672c\u8a9e"]
    told: list[int] = []
    with worker.start("gguf", tiny_gguf, settings) as engine:
        sampling = replace(GREEDY, seed=0)
        together = engine.answer_together(prompts, sampling, told.append)
        alone = [greedy_by_logits(engine, engine.tokenize(prompt), 24) for prompt in prompts]
        assert together == [until_end(ids) for ids in alone]
        assert sum(told) == sum(map(len, together))
        # Drawn, each has a seed of its own, and the same ones the next time.
        drawn = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=3, max_tokens=24)
        one, other = (engine.answer_together(["same"] * 4, drawn, told.append) for _ in range(2))
        assert one == other
        assert len({tuple(ids) for ids in one}) == 4


def until_end(ids: list[int]) -> list[int]:
    """Return what comes before the token that ends an answer, and that token."""
    return ids[: ids.index(END) + 1] if END in ids else ids


def test_greedy_with_the_cache_equals_greedy_without(engine: Engine) -> None:
    prompt = engine.tokenize(PROMPT)
    expected = greedy_by_logits(engine, prompt, 8)
    tokens = answer(engine, PROMPT, replace(GREEDY, max_tokens=8))
    assert ids(tokens) == expected[: len(ids(tokens))]
    assert len(ids(tokens)) == 8 or tokens[-1].finish == "stop"


def test_reuse_of_a_prefix_changes_nothing(engine: Engine) -> None:
    longer = f"{PROMPT} jumps over the lazy dog"
    engine.clear()
    fresh = answer(engine, longer, GREEDY)
    engine.clear()
    answer(engine, PROMPT, GREEDY)
    reused = answer(engine, longer, GREEDY)
    assert fresh[-1].timings.reused_tokens == 0
    assert reused[-1].timings.reused_tokens == len(engine.tokenize(PROMPT))
    assert ids(reused) == ids(fresh)


def test_a_seed_makes_sampling_repeatable_and_others_differ(engine: Engine) -> None:
    warm = Sampling(temperature=1.5, max_tokens=24, seed=7)
    first, again = (ids(answer(engine, PROMPT, warm)) for _ in range(2))
    assert first == again
    assert first != ids(answer(engine, PROMPT, replace(warm, seed=8)))
    unseeded = replace(warm, seed=None)
    assert ids(answer(engine, PROMPT, unseeded)) != ids(answer(engine, PROMPT, unseeded))


def test_top_k_of_one_is_greedy(engine: Engine) -> None:
    narrow = Sampling(temperature=2.0, top_k=1, max_tokens=24, seed=1)
    assert ids(answer(engine, PROMPT, narrow)) == ids(answer(engine, PROMPT, GREEDY))


def test_a_repeat_penalty_breaks_repetition(engine: Engine) -> None:
    plain = ids(answer(engine, PROMPT, GREEDY))
    punished = ids(answer(engine, PROMPT, replace(GREEDY, repeat_penalty=10.0)))
    assert len(set(punished)) >= len(set(plain))
    assert len(set(punished)) == len(punished)


def test_state_saved_and_loaded_goes_on_as_before(
    engine: Engine, tiny_gguf: Path, tmp_path: Path
) -> None:
    engine.clear()
    expected = answer(engine, PROMPT, GREEDY)
    engine.save_state(tmp_path / "state")
    with worker.start("gguf", tiny_gguf, SETTINGS) as other:
        assert other.load_state(tmp_path / "state") >= len(engine.tokenize(PROMPT))
        tokens = answer(other, PROMPT, GREEDY)
        assert tokens[-1].timings.reused_tokens == len(engine.tokenize(PROMPT)) - 1
        assert ids(tokens) == ids(expected)


def test_a_foreign_state_is_refused(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"not a state at all")
    with pytest.raises(BadInput, match="not a saved state of this model"):
        engine.load_state(tmp_path / "state")
    assert answer(engine, PROMPT, GREEDY)[-1].timings.reused_tokens == 0


def test_a_cancel_in_the_middle_of_a_long_prompt(tiny_gguf: Path) -> None:
    """The engine is cancelled from its own thread: the flag is seen inside llama.cpp."""
    from pitool.engine.llamacpp import LlamaCpp

    settings = Settings(context=4096, decode_threads=1, prefill_threads=1, micro_batch=2048)
    loaded = LlamaCpp(tiny_gguf, settings)
    stream = loaded.stream([5] * 3000, GREEDY)
    first = next(stream)
    assert first.timings.prefilled_tokens < 3000
    loaded.cancel()
    rest = list(stream)
    assert rest[-1].finish == "cancelled"
    assert rest[-1].timings.prefilled_tokens < 3000
    after = list(loaded.stream([5] * 100, GREEDY))
    assert after[-1].timings.prefilled_tokens == 100
    fresh = LlamaCpp(tiny_gguf, settings)
    assert ids(after) == ids(list(fresh.stream([5] * 100, GREEDY)))
    for each in (loaded, fresh):
        each.close()


def test_the_chunks_of_a_prompt_do_not_change_the_answer(tiny_gguf: Path) -> None:
    prompt = [(7 * i) % 500 for i in range(150)]
    answers = []
    for micro_batch in (16, 512):
        with worker.start("gguf", tiny_gguf, replace(SETTINGS, micro_batch=micro_batch)) as one:
            answers.append(ids(answer(one, prompt, GREEDY)))
    assert answers[0] == answers[1]


@pytest.mark.thorough
def test_load_modes_and_kv_types_answer_alike(tiny_gguf: Path, engine: Engine) -> None:
    expected = engine.logits(list(range(40)))
    for settings in (
        replace(SETTINGS, load_mode="read"),
        replace(SETTINGS, repack=False, flash_attention="off"),
        replace(SETTINGS, kv_type="f32"),
    ):
        with worker.start("gguf", tiny_gguf, settings) as other:
            np.testing.assert_allclose(other.logits(list(range(40))), expected, atol=0.02)


def test_time_forward_fills_the_cache_and_takes_time(engine: Engine) -> None:
    engine.clear()
    assert engine.time_forward([5] * 64, one_by_one=False) > 0
    assert engine.time_forward([6] * 8, one_by_one=True) > 0
    engine.clear()


def test_a_killed_worker_says_so_and_another_answers(tiny_gguf: Path) -> None:
    settings = replace(SETTINGS, context=1024)
    doomed = worker.start("gguf", tiny_gguf, settings)
    with pytest.raises(WorkerDied, match="SIGKILL"):
        for token in doomed.stream(PROMPT, replace(GREEDY, max_tokens=900)):
            if token.text:
                os.kill(doomed.pid, signal.SIGKILL)
    doomed.close()
    with worker.start("gguf", tiny_gguf, settings) as second:
        assert answer(second, PROMPT, GREEDY)[-1].finish


@pytest.mark.thorough
@pytest.mark.parametrize("size", [3, 100, 20_000, 600_000])
def test_a_file_cut_short_is_refused_in_a_sentence(
    tiny_gguf: Path, tmp_path: Path, size: int
) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_gguf.read_bytes()[:size])
    with pytest.raises(BadInput, match=r"truncated|too short|damaged"):
        worker.start("gguf", cut, SETTINGS)


def test_a_file_that_llama_cpp_refuses_says_why(tiny_gguf: Path, tmp_path: Path) -> None:
    data = tiny_gguf.read_bytes().replace(b"blk.1.attn_q.weight", b"blk.1.attn_x.weight")
    (tmp_path / "renamed.gguf").write_bytes(data)
    with pytest.raises(BadInput, match="attn_q"):
        worker.start("gguf", tmp_path / "renamed.gguf", SETTINGS)


def test_a_rewound_cache_is_as_long_as_asked_and_goes_on_as_if_nothing_followed(
    engine: Engine,
) -> None:
    check_rewinding(engine)

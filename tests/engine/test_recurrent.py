"""Models with a recurrent state: what is kept between prompts, what is not, and what is saved."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from pitool.checkpoint.config import read_config
from pitool.convert.gguf.model import find_model
from pitool.engine import worker
from pitool.engine.base import Engine, Sampling, Settings, Token
from pitool.engine.llamacpp import LlamaCpp
from pitool.engine.llamacpp.library import llama_cpp
from pitool.engine.llamacpp.sequences import turn_starts
from pitool.engine.scheduling import Heard
from pitool.planning.memory import checkpoints
from tests.convert.helpers import write_float
from tests.tiny import write_tokenizer

pytestmark = pytest.mark.engine

SIZES = {
    "hidden_size": 64, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "vocab_size": 300,
    "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
FULL = "full_attention"
FAMILIES: dict[str, dict[str, Any]] = {
    "lfm2": {"layer_types": ["conv", FULL, "conv"], "block_auto_adjust_ff_dim": False},
    "qwen3_5_text": {
        "layer_types": ["linear_attention", FULL, "linear_attention"], "head_dim": 32,
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16,
        "linear_value_head_dim": 16, "rms_norm_eps": 1e-6,
    },
    "granitemoehybrid": {
        "layer_types": ["mamba", "attention", "mamba"], "mamba_n_heads": 4, "mamba_d_state": 16,
        "num_local_experts": 0, "shared_intermediate_size": 48,
    },
}  # fmt: skip
SETTINGS = Settings(context=256, decode_threads=1, prefill_threads=1)
GREEDY = Sampling(temperature=0, max_tokens=8)
FIRST, NEXT = [5, 9, 200, 77, 3, 41, 8], [17, 250, 6, 91]


def write_checkpoint(folder: Path, kind: str) -> Path:
    """Write random weights of the shapes that the family's file asks for."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**SIZES, **FAMILIES[kind], "model_type": kind}))
    write_tokenizer(folder, SIZES["vocab_size"])  # type: ignore[arg-type]
    random = np.random.default_rng(0)
    shapes = {want.source: want.source_shape for want in find_model(read_config(folder)).wanted()}
    tensors = {
        name: random.normal(len(shape) == 1, 1.5 / shape[-1] ** 0.5, shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module", params=FAMILIES)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp(request.param)
    return write_float(write_checkpoint(root / "model", request.param), root / "m.gguf", "F32")


@pytest.fixture
def engine(file: Path) -> Iterator[Engine]:
    with worker.start("gguf", file, SETTINGS) as started:
        yield started


def answered(engine: Engine, prompt: list[int]) -> tuple[list[int], int]:
    """Return the answer, and how many tokens of the prompt were not processed again."""
    tokens: list[Token] = list(engine.stream(prompt, GREEDY))
    return [t.id for t in tokens if t.id is not None], tokens[-1].timings.reused_tokens


def fresh(file: Path, prompt: list[int]) -> list[int]:
    """Return the answer of an engine that has read nothing else."""
    loaded = LlamaCpp(file, SETTINGS)
    try:
        return answered(loaded, prompt)[0]
    finally:
        loaded.close()


@pytest.mark.thorough
def test_a_conversation_that_goes_on_is_not_read_again(engine: Engine, file: Path) -> None:
    answer, reused = answered(engine, FIRST)
    assert (len(answer), reused) == (8, 0)
    longer = [*FIRST, *answer, *NEXT]
    found, reused = answered(engine, longer)
    assert reused == len(FIRST) + len(answer) - 1
    assert found == fresh(file, longer)


MARK = 1  # a control token of the tiny tokenizer, which begins a turn


def test_the_mark_of_these_tests_begins_a_turn(file: Path) -> None:
    loaded = LlamaCpp(file, SETTINGS)
    assert MARK in loaded._vocabulary.turn_marks
    loaded.close()


@pytest.mark.thorough
def test_an_edited_question_goes_on_where_its_turn_begins(engine: Engine, file: Path) -> None:
    """The last question is asked otherwise, its answer is asked for again, and it goes on."""
    history = [*range(20, 60), MARK, *range(60, 90)]
    asked = [*history, MARK, 200, 201, 202, 203, 204, 205, 206, 207, MARK, 9]
    answer, _ = answered(engine, asked)
    again, reused = answered(engine, asked)
    assert again == answer
    assert reused == len(asked) - 2
    edited = [*history, MARK, 150, 151, 152, 153, 154, 155, 156, 157, MARK, 9]
    found, reused = answered(engine, edited)
    assert reused == len(history)
    assert found == fresh(file, edited)
    # A template that leaves the reasoning out of an old turn changes what follows the mark.
    stripped = [*edited[:-1], 8, *found[2:], MARK, 33, 34, 35, 36, 37, 38, 39, 40, MARK, 9]
    found, reused = answered(engine, stripped)
    assert reused == len(edited) - 2
    assert found == fresh(file, stripped)


def test_logits_after_a_restored_state_are_those_of_a_full_reading(file: Path) -> None:
    loaded = LlamaCpp(file, replace(SETTINGS, kv_type="f32"))
    asked = [*range(20, 60), MARK, 200, 201, 202, 203, 204, 205, 206, 207, MARK, 9]
    list(loaded.stream(asked, GREEDY))
    one = replace(GREEDY, max_tokens=1)
    token = list(loaded.stream(asked, one))[-1]
    assert token.timings.reused_tokens == len(asked) - 2
    restored = loaded._logits(-1).copy()
    loaded.clear()
    assert list(loaded.stream(asked, one))[-1].timings.reused_tokens == 0
    np.testing.assert_allclose(restored, loaded._logits(-1), atol=1e-5)
    loaded.close()


def test_answers_at_once_are_those_alone(file: Path) -> None:
    prompts = [[5, 9, 200], [*range(20, 60), MARK, 7], [17] * 30, [*range(20, 60), MARK, 8]]
    loaded = LlamaCpp(file, replace(SETTINGS, context=4 * 256, sequences=4))
    for _ in range(2):
        heard = [Heard() for _ in prompts]
        for prompt, each in zip(prompts, heard, strict=True):
            loaded.scheduler.add(prompt, GREEDY, each)
        while loaded.scheduler.busy:
            loaded.scheduler.step()
        together = [[t.id for t in each.take() if t.id is not None] for each in heard]
        assert together == [fresh(file, prompt) for prompt in prompts]
    loaded.close()


def test_a_turn_is_shared_by_conversations(file: Path) -> None:
    loaded = LlamaCpp(file, replace(SETTINGS, context=4 * 256, sequences=4))
    system = list(range(20, 60))
    first, second = ([*system, MARK, *range(at, at + 10), MARK, 9] for at in (100, 200))
    list(loaded.stream(first, GREEDY))
    tokens = list(loaded.stream(second, GREEDY))
    assert tokens[-1].timings.reused_tokens == len(system)
    assert [t.id for t in tokens if t.id is not None] == fresh(file, second)
    tokens = list(loaded.stream(first, GREEDY))
    assert tokens[-1].timings.reused_tokens == len(first) - 2
    loaded.close()


def test_a_cancel_while_reading_leaves_a_state_that_is_right(file: Path) -> None:
    loaded = LlamaCpp(file, SETTINGS)
    heard = Heard()
    loaded.scheduler.add([*range(20, 100), MARK, *range(100, 140), MARK, 9], GREEDY, heard)
    loaded.scheduler.step()
    # As if it had been cancelled in the middle of the pass.
    slot = loaded._sequences.slots[0]
    llama_cpp.llama_decode(
        loaded._ctx, llama_cpp.llama_batch_get_one((llama_cpp.llama_token * 4)(1, 2, 3, 4), 4)
    )
    assert loaded._sequences.rewind(slot, len(slot.tokens)) in (0, 80)
    heard.cancelled = True
    loaded.scheduler.step()
    prompt = [*range(20, 100), MARK, 7, 8]
    found = [t.id for t in loaded.stream(prompt, GREEDY) if t.id is not None]
    assert found == fresh(file, prompt)
    loaded.close()


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        ([], []),
        ([5], []),
        ([5, 6, 7], [2]),
        ([1, *[5] * 20, 1, *[5] * 20, 1, 6], [21, 42]),
        ([1, 7, 1, *[5] * 20, 1, 7, 1, 5], [23]),
        ([*([1, *[5] * 299] * 5), 1, 5], [600, 1200, 1500]),
    ],
)
def test_where_turns_begin(ids: list[int], found: list[int]) -> None:
    assert turn_starts(ids, {1}) == found


@pytest.mark.parametrize(
    ("state", "sequences", "kept"),
    [(0, 1, 8), (1 << 20, 1, 8), (1 << 20, 16, 4), (50 << 20, 1, 2), (20 << 20, 4, 2)],
)
def test_how_many_copies_are_kept(state: int, sequences: int, kept: int) -> None:
    assert checkpoints(state, sequences) == kept


@pytest.mark.thorough
def test_another_prompt_is_read_from_its_beginning(engine: Engine, file: Path) -> None:
    answered(engine, FIRST)
    other = [*FIRST[:4], *NEXT]
    found, reused = answered(engine, other)
    assert reused == 0
    assert found == fresh(file, other)


@pytest.mark.thorough
def test_a_saved_state_goes_on_where_it_was(engine: Engine, file: Path, tmp_path: Path) -> None:
    answer, _ = answered(engine, FIRST)
    longer = [*FIRST, *answer, *NEXT]
    engine.save_state(tmp_path / "state")
    wanted, _ = answered(engine, longer)
    with worker.start("gguf", file, SETTINGS) as other:
        assert other.load_state(tmp_path / "state") == len(FIRST) + len(answer) - 1
        found, reused = answered(other, longer)
    assert reused == len(FIRST) + len(answer) - 1
    assert found == wanted

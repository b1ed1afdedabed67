"""Models with a recurrent state: what is kept between prompts, what is not, and what is saved."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from pitool.checkpoint.config import read_config
from pitool.convert.gguf.model import find_model
from pitool.engine import worker
from pitool.engine.base import Engine, Sampling, Settings, Token
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
    with worker.start("gguf", file, SETTINGS) as started:
        return answered(started, prompt)[0]


def test_a_conversation_that_goes_on_is_not_read_again(engine: Engine, file: Path) -> None:
    answer, reused = answered(engine, FIRST)
    assert (len(answer), reused) == (8, 0)
    longer = [*FIRST, *answer, *NEXT]
    found, reused = answered(engine, longer)
    assert reused == len(FIRST) + len(answer) - 1
    assert found == fresh(file, longer)


def test_another_prompt_is_read_from_its_beginning(engine: Engine, file: Path) -> None:
    answered(engine, FIRST)
    other = [*FIRST[:4], *NEXT]
    found, reused = answered(engine, other)
    assert reused == 0
    assert found == fresh(file, other)


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

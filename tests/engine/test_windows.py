"""States of models whose layers have windows: what a state has lost is not built upon."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pitool.checkpoint.config import read_config
from pitool.convert.gguf.model import find_model
from pitool.engine import worker
from pitool.engine.base import Sampling, Settings
from pitool.engine.prefills.files import Place
from pitool.engine.worker import WorkerEngine
from tests.convert.helpers import write_float
from tests.tiny import write_tokenizer

pytestmark = pytest.mark.engine

SIZES = {
    "model_type": "gemma3_text", "hidden_size": 64, "intermediate_size": 48, "head_dim": 32,
    "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 1024, "vocab_size": 300, "sliding_window": 32,
    "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
    "query_pre_attn_scalar": 32, "rms_norm_eps": 1e-6, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
ONE = Settings(1024, decode_threads=1, prefill_threads=1, kv_type="f32", flash_attention="off")
GREEDY = Sampling(temperature=0, max_tokens=16)
LONG = [(11 * i) % 280 + 5 for i in range(400)]
TURNED = [*LONG[:380], 7, 8, 9]  # it goes on otherwise, within the window of what was saved


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("windows")
    (root / "model").mkdir()
    (root / "model" / "config.json").write_text(json.dumps(SIZES))
    write_tokenizer(root / "model", 300)
    random = np.random.default_rng(0)
    wanted = find_model(read_config(root / "model")).wanted()
    tensors = {
        want.source: random.normal(0, 1.5 / want.source_shape[-1] ** 0.5, want.source_shape).astype(
            np.float32
        )
        for want in wanted
    }
    save_file(tensors, root / "model" / "model.safetensors")
    return write_float(root / "model", root / "m.gguf", "F32")


def answer(engine: WorkerEngine, prompt: list[int]) -> tuple[int, list[int]]:
    tokens = list(engine.stream(prompt, GREEDY))
    return tokens[-1].timings.reused_tokens, [t.id for t in tokens if t.id is not None]


def test_a_state_is_shortened_only_as_far_as_its_windows_reach(file: Path, tmp_path: Path) -> None:
    with worker.start("gguf", file, ONE) as engine:
        expected = {len(prompt): answer(engine, prompt)[1] for prompt in (LONG, TURNED)}
        engine.clear()
        assert answer(engine, TURNED)[1] == expected[len(TURNED)]
        engine.clear()
        assert answer(engine, LONG) == (0, expected[len(LONG)])
        # Nothing was lost of what was read here.
        assert answer(engine, TURNED) == (380, expected[len(TURNED)])
        engine.clear()
        engine.time_forward(LONG, one_by_one=False)
        engine.save_state(tmp_path / "state")
        engine.clear()
        assert engine.load_state(tmp_path / "state") == len(LONG)
        reused, found = answer(engine, TURNED)
        assert found == expected[len(TURNED)]
        assert reused == 0
        engine.load_state(tmp_path / "state")
        longer = [*LONG, 5, 6, 7]
        reused, found = answer(engine, longer)
        assert reused == len(LONG)
        engine.clear()
        assert answer(engine, longer)[1] == found


@pytest.mark.thorough
@pytest.mark.parametrize("sequences", [1, 2])
def test_a_saved_prefix_is_used_whole_or_not_at_all(
    file: Path, tmp_path: Path, sequences: int
) -> None:
    settings = replace(ONE, context=1024 * sequences, sequences=sequences)
    places = [Place(str(tmp_path), "m" * 32)]
    with worker.start("gguf", file, settings, prefixes=places) as engine:
        expected = answer(engine, TURNED)[1]
        engine.clear()
        answer(engine, LONG)
        engine.keep_prefixes()
    with worker.start("gguf", file, settings, prefixes=places) as engine:
        assert answer(engine, TURNED) == (0, expected)
        longer = [*LONG, *answer(engine, LONG)[1], 5, 6]
        found = answer(engine, longer)
        assert found[0] > 380
        # Another conversation must not take the part that the first one has no window for.
        assert answer(engine, TURNED)[1] == expected

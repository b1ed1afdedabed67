"""Our forward pass and llama.cpp's on our GGUF against transformers, for every family."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pitool.architectures.table import TABLE
from pitool.checkpoint.config import Config
from pitool.convert.numpy_forward import reference_logits
from pitool.engine import worker
from pitool.engine.base import Settings
from pitool.errors import BadInput
from tests.convert.helpers import checkpoint_of, real_engine, write_float
from tests.oracle import cases as families
from tests.tiny import write_checkpoint

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

BASE: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 300, "max_position_embeddings": 256,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
CASES: dict[str, dict[str, Any]] = {
    "llama-tied": {},
    "llama-untied": {"tie_word_embeddings": False},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "multi-head": {"num_key_value_heads": 4},
    "one-kv-head": {"num_key_value_heads": 1},
    "head-dim": {"head_dim": 32},
    "theta": {"rope_theta": 500000.0},
    "epsilon": {"rms_norm_eps": 0.1},
    "llama3": {"rope_scaling": LLAMA3, "max_position_embeddings": 1024},
    "linear": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "yarn": {"rope_scaling": YARN},
    "yarn-betas": {"rope_scaling": {**YARN, "beta_fast": 32, "beta_slow": 1}},
    "yarn-without-original": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
    "qwen2-tied": {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]},
    "qwen2-untied": {
        "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "tie_word_embeddings": False,
    },
    "qwen2-yarn": {
        "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "rope_scaling": YARN,
    },
}  # fmt: skip
# YaRN that llama.cpp's loaders cannot be told: refused as GGUF, right in the reference.
UNSAID: dict[str, dict[str, Any]] = {
    "mscale": {"mscale": 1.0, "mscale_all_dim": 1.0},
    "mscales that differ": {"mscale": 0.7, "mscale_all_dim": 1.2},
    "attention_factor": {"attention_factor": 1.3},
    "betas": {"beta_fast": 16, "beta_slow": 2},
    "truncate": {"truncate": False},
}
IDS = np.random.default_rng(0).integers(0, 300, 90).tolist()


def checkpoint(tmp_path: Path, case: str) -> Path:
    return write_checkpoint(tmp_path / "c", kind="F32", **{**BASE, **CASES[case]})


def expected(folder: Path) -> NDArray[np.float32]:
    """Return the logits of transformers in float32."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, torch_dtype=torch.float32, attn_implementation="eager"
    ).float()
    with torch.no_grad():
        logits: NDArray[np.float32] = model.eval()(torch.tensor([IDS])).logits[0].numpy()
    return logits


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore")
def test_the_reference_is_that_of_transformers(tmp_path: Path, case: str) -> None:
    folder = checkpoint(tmp_path, case)
    wanted = expected(folder)
    scale = float(np.abs(wanted).max())
    assert 1 < scale < 100
    found = reference_logits(checkpoint_of(folder), IDS)
    np.testing.assert_allclose(found, wanted, atol=1e-4 * scale)


@pytest.mark.parametrize("case", UNSAID)
@pytest.mark.filterwarnings("ignore")
def test_yarn_of_its_own_is_right_or_refused(tmp_path: Path, case: str) -> None:
    scaling = {**YARN, **UNSAID[case]}
    folder = write_checkpoint(tmp_path / "c", kind="F32", **{**BASE, "rope_scaling": scaling})
    wanted = expected(folder)
    found = reference_logits(checkpoint_of(folder), IDS)
    np.testing.assert_allclose(found, wanted, atol=1e-4 * float(np.abs(wanted).max()))
    with pytest.raises(BadInput, match=r"YaRN with a custom '.+' is not supported"):
        write_float(folder, tmp_path / "m.gguf", "F32")


@pytest.mark.engine
@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore")
def test_the_engine_on_our_file_is_transformers(tmp_path: Path, case: str) -> None:
    folder = checkpoint(tmp_path, case)
    wanted = expected(folder)
    path = write_float(folder, tmp_path / "m.gguf", "F32")
    # Flash attention and the usual cache round to float16.
    exact = Settings(256, 1, 1, outputs=128, kv_type="f32", flash_attention="off")
    with worker.start("gguf", path, exact) as engine:
        found = engine.logits(IDS)
    np.testing.assert_allclose(found, wanted, atol=1e-4 * float(np.abs(wanted).max()))
    with real_engine(path, 256) as engine:
        usual = engine.logits(IDS)
    np.testing.assert_allclose(usual, wanted, atol=2e-2 * float(np.abs(wanted).max()))


@pytest.mark.parametrize("case", families.CASES)
@pytest.mark.filterwarnings("ignore")
def test_the_reference_of_every_family_is_transformers(
    family_checkpoint: Callable[[str], Path], case: str
) -> None:
    folder = family_checkpoint(case)
    wanted = expected(folder)
    found = reference_logits(checkpoint_of(folder), IDS)
    np.testing.assert_allclose(found, wanted, atol=1e-4 * float(np.abs(wanted).max()))


@pytest.mark.engine
@pytest.mark.parametrize("case", families.CASES)
@pytest.mark.filterwarnings("ignore")
def test_every_family_in_the_engine_is_transformers(
    family_checkpoint: Callable[[str], Path], tmp_path: Path, case: str
) -> None:
    folder = family_checkpoint(case)
    wanted = expected(folder)
    scale = float(np.abs(wanted).max())
    path = write_float(folder, tmp_path / "m.gguf", "F32")
    exact = Settings(256, 1, 1, outputs=128, kv_type="f32", flash_attention="off")
    with worker.start("gguf", path, exact) as engine:
        found = engine.logits(IDS)
    # ggml looks its GELU up in a table of float16.
    rounded = case.startswith(("gemma", "gpt", "starcoder"))
    np.testing.assert_allclose(found, wanted, atol=(1e-3 if rounded else 1e-4) * scale)


@pytest.mark.parametrize("kind", sorted(set(TABLE) & set(transformers.CONFIG_MAPPING)))
def test_a_head_is_the_embedding_where_transformers_says_so(kind: str) -> None:
    key, alias = "tie_word_embeddings", "tie_embedding" if kind == "lfm2" else ""
    for said in ({}, {key: True}, {key: False}, {key: True, alias: False}):
        values = {"text_config": said} if kind in ("gemma3", "gemma3n", "mistral3") else said
        wanted = transformers.AutoConfig.for_model(kind, **values).get_text_config()
        found = Config({"model_type": kind, **values}, Path("config.json")).text_model()
        assert found.tied == wanted.tie_word_embeddings, values


def test_settings_of_transformers_5_mean_the_same(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, "llama3")
    before = reference_logits(checkpoint_of(folder), IDS)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["rope_parameters"] = {
        **config.pop("rope_scaling"),
        "rope_theta": config.pop("rope_theta"),
    }
    path.write_text(json.dumps(config))
    np.testing.assert_array_equal(reference_logits(checkpoint_of(folder), IDS), before)

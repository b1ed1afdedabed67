"""The float32 graph of every family against transformers: whole, in chunks, one by one, rewound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pitool.errors import BadInput
from pitool.quality.divergence import compare
from tests.convert.onnx.helpers import Plain, written
from tests.tiny import write_checkpoint

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")

BASE: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 300, "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
LONG = {
    "type": "longrope", "short_factor": [1.0 + i / 8 for i in range(8)],
    "long_factor": [2.0 + i for i in range(8)],
}  # fmt: skip
GEMMA = {"head_dim": 32, "sliding_window": 16, "query_pre_attn_scalar": 24}
SLIDING = {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}
CASES: dict[str, dict[str, Any]] = {
    "llama-tied": {"tie_word_embeddings": True},
    "llama-untied": {"tie_word_embeddings": False},
    "llama-biases": {"attention_bias": True, "mlp_bias": True},
    "llama-multi-head": {"num_key_value_heads": 4},
    "llama-head-8": {"head_dim": 8},
    "llama-head-24": {"head_dim": 24, "attention_bias": True},
    "llama-llama3": {"rope_scaling": LLAMA3, "rope_theta": 500000.0},
    "llama-linear": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "llama-yarn": {"rope_scaling": YARN},
    "llama-yarn-mscale": {"rope_scaling": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.2}},
    "llama-yarn-own": {
        "rope_scaling": {**YARN, "attention_factor": 1.3, "beta_fast": 16, "truncate": False},
    },
    "llama-gelu": {"hidden_act": "gelu_pytorch_tanh"},
    "mistral": {"sliding_window": None},
    "mistral-window": {"sliding_window": 20},
    "qwen2": {"tie_word_embeddings": True},
    "qwen2-window": SLIDING,
    "qwen3": {"head_dim": 16},
    "qwen3-head-24": {"head_dim": 24, "tie_word_embeddings": True},
    "smollm3": {"no_rope_layer_interval": 2},
    "smollm3-window": {
        "no_rope_layer_interval": 2, "use_sliding_window": True, "sliding_window": 16,
    },
    "phi3": {"num_attention_heads": 4, "sliding_window": None},
    "phi3-long": {"rope_scaling": LONG, "original_max_position_embeddings": 128},
    "granite": {
        "attention_multiplier": 0.3, "embedding_multiplier": 3.0, "residual_multiplier": 0.4,
        "logits_scaling": 2.0,
    },
    "mixtral": {"num_local_experts": 8, "num_experts_per_tok": 2},
    "mixtral-all": {"num_local_experts": 4, "num_experts_per_tok": 4},
    "qwen3_moe": {
        "num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 32, "head_dim": 16,
        "norm_topk_prob": True,
    },
    "gemma2": {**GEMMA, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0},
    "gemma3_text": {**GEMMA, "sliding_window_pattern": 2, "rope_local_base_freq": 1000.0},
}  # fmt: skip
IDS = np.random.default_rng(0).integers(0, 300, 90).tolist()


def saved(folder: Path, case: str) -> NDArray[np.float32]:
    """Save a random model of transformers and return its logits for ``IDS``."""
    write_checkpoint(folder, kind="F32", vocab_size=300)
    torch.manual_seed(1)
    config = transformers.AutoConfig.for_model(case.partition("-")[0], **{**BASE, **CASES[case]})
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            spread = 0.2 if weight.dim() == 1 else 1.5 / weight.shape[1] ** 0.5
            weight.add_(torch.randn_like(weight) * spread)
            assert weight.abs().max() > 0, name
    model.save_pretrained(folder)
    with torch.no_grad():
        logits: NDArray[np.float32] = model(torch.tensor([IDS])).logits[0].numpy()
    return logits


@pytest.mark.parametrize("case", CASES)
def test_the_graph_is_the_model_of_transformers(tmp_path: Path, case: str) -> None:
    wanted = saved(tmp_path / "c", case)
    scale = float(np.abs(wanted).max())
    assert 1 < scale < 200
    graph = Plain(written(tmp_path / "c", tmp_path))

    def same(found: NDArray[np.float32], rows: slice) -> None:
        np.testing.assert_allclose(found, wanted[rows], atol=1e-4 * scale)

    same(graph.run(IDS), slice(0, 90))
    graph.rewind(30)
    same(graph.run(IDS[30:50]), slice(30, 50))
    same(graph.run(IDS[50:60], rows=1), slice(59, 60))
    for i in range(60, 64):
        same(graph.run([IDS[i]]), slice(i, i + 1))
    graph.rewind(0)
    same(graph.run(IDS[:7]), slice(0, 7))


def test_quantised_experts_are_as_near_as_the_matrices_of_others(tmp_path: Path) -> None:
    """All of them are used, so that no rounding sends a token elsewhere."""
    wanted = saved(tmp_path / "c", "mixtral-all")
    dense = saved(tmp_path / "d", "mistral")
    for kind in ("INT8", "INT4", "INT4_ASYMMETRIC"):
        found = Plain(written(tmp_path / "c", tmp_path / "e", kind)).run(IDS)
        other = Plain(written(tmp_path / "d", tmp_path / "f", kind)).run(IDS)
        apart, usual = compare(wanted, found, IDS).mean_kl, compare(dense, other, IDS).mean_kl
        print(f"{kind}: KL {apart:.3g}, of a dense model {usual:.3g}")
        assert 0 < apart < 3 * usual


@pytest.mark.parametrize("kind", ["FP16", "INT8_DYNAMIC"])
def test_experts_that_no_operator_computes_are_refused(tmp_path: Path, kind: str) -> None:
    saved(tmp_path / "c", "mixtral")
    with pytest.raises(BadInput, match=f"experts is not supported in {kind}: .* no operator"):
        written(tmp_path / "c", tmp_path, kind)

"""Every key of config.json is understood, harmless or refused by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pitool.architectures.table import TABLE, describe
from pitool.checkpoint.config import Config, read_config
from pitool.errors import BadInput
from tests.tiny import LLAMA

GEMMA = {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16}
# The tiny Llama's sizes; a family's own names where it has others.
SIZES = {key: value for key, value in LLAMA.items() if key not in ("rms_norm_eps", "rope_theta")}
OWN: dict[str, dict[str, Any]] = {
    "gemma2": GEMMA,
    "gemma3": GEMMA,
    "gemma3_text": GEMMA,
    "gemma4": {"layer_types": ["sliding_attention", "full_attention", "full_attention"]},
    "gemma4_text": {"layer_types": ["sliding_attention", "full_attention", "full_attention"]},
    "gemma3n": {
        "num_kv_shared_layers": 0,
        "layer_types": ["sliding_attention"] * 2 + ["full_attention"],
    },
    "gemma3n_text": {
        "num_kv_shared_layers": 0,
        "layer_types": ["sliding_attention"] * 2 + ["full_attention"],
    },
    "gpt_neox": {"hidden_act": "gelu"},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv"]},
    "qwen3_moe": {"norm_topk_prob": True, "num_experts": 4, "num_experts_per_tok": 2},
}
# Each changes the logits of a model that knows it.
CHANGES: dict[str, Any] = {
    "activation_function": "relu",
    "alibi": True,
    "attention_bias": True,
    "attention_multiplier": 0.3,
    "attn_logit_softcapping": 20.0,
    "block_ff_dim": 99,
    "clip_qkv": 8.0,
    "conv_L_cache": 5,
    "conv_bias": True,
    "decoder_sparse_step": 2,
    "embedding_multiplier": 12.0,
    "final_logit_softcapping": 20.0,
    "head_dim": 64,
    "hidden_act": "relu",
    "hidden_activation": "relu",
    "layer_norm_eps": 0.1,
    "layer_norm_epsilon": 0.1,
    "layer_types": ["sliding_attention"] * 3,
    "logit_scale": 0.5,
    "logits_scaling": 4.0,
    "lm_head_bias": True,
    "max_window_layers": 1,
    "mlp_bias": True,
    "mlp_only_layers": [1],
    "n_inner": 99,
    "no_rope_layer_interval": 2,
    "no_rope_layers": [1, 0, 1],
    "norm_eps": 0.1,
    "norm_topk_prob": False,
    "num_experts": 16,
    "num_experts_per_tok": 3,
    "partial_rotary_factor": 0.5,
    "qk_layernorm": True,
    "quantization_config": {"quant_method": "gptq"},
    "query_pre_attn_scalar": 100,
    "residual_multiplier": 0.2,
    "rms_norm_eps": 0.1,
    "rope_interleaved": True,
    "rope_local_base_freq": 500.0,
    "rope_scaling": {"rope_type": "linear", "factor": 4.0},
    "rope_theta": 500.0,
    "rotary_emb_base": 500,
    "rotary_pct": 0.5,
    "scale_attn_by_inverse_layer_idx": True,
    "scale_attn_weights": False,
    "sliding_window": 8,
    "sliding_window_pattern": 2,
    "something_new": 1,
    "tie_word_embeddings": False,
    "use_bidirectional_attention": True,
    "use_parallel_residual": True,
    "use_qkv_bias": True,
    "use_sliding_window": True,
}
# What the family's model in transformers does not look at, so that it changes nothing there.
UNSEEN: dict[str, set[str]] = {
    "apertus": {"mlp_bias"},
    "bert": {"head_dim", "tie_word_embeddings"},
    "gpt_oss": {"hidden_act", "mlp_bias"},
    "starcoder2": {"attention_bias", "mlp_bias", "rms_norm_eps"},
    "gemma2": {"hidden_act"},
    "gemma3": {"hidden_act", "attn_logit_softcapping"},
    "gemma3_text": {"hidden_act", "attn_logit_softcapping"},
    "gemma4": {"num_experts", "partial_rotary_factor", "rope_theta"},
    "gemma4_text": {"num_experts", "partial_rotary_factor", "rope_theta"},
    "gpt2": {"head_dim"},
    "gpt_neox": {"head_dim"},
    "granitemoehybrid": {"head_dim"},
    "lfm2": {"rms_norm_eps"},
    "ministral3": {"rope_theta"},
    "mistral3": {"rope_theta"},
    "lfm2_moe": {"rms_norm_eps"},
    "qwen2": {"attention_bias"},
    "qwen3_moe": {"max_window_layers"},
    "smollm3": {"max_window_layers"},
    "stablelm": {"head_dim", "norm_eps", "rms_norm_eps"},
}
# The value above is the family's own already.
EQUAL: dict[str, set[str]] = {
    "gpt_neox": {"attention_bias", "use_parallel_residual"},
    "gpt_oss": {"attention_bias", "head_dim"},
    "glm4": {"attention_bias", "partial_rotary_factor"},
    "olmoe": {"norm_topk_prob"},
    "seed_oss": {"attention_bias"},
}
# Windows that are switched off, or on where no layer has one: two tests of their own see them.
SWITCHED = {"sliding_window", "max_window_layers", "layer_types", "use_sliding_window"}


def settings(name: str, **changes: Any) -> Config:
    values = {**SIZES, "model_type": name, **OWN.get(name, {}), **changes}
    return Config(values, Path("config.json"))


@pytest.mark.parametrize("name", TABLE)
def test_no_setting_that_changes_the_mathematics_passes_unseen(name: str) -> None:
    plain = describe(settings(name))
    passed = set()
    for key, value in CHANGES.items():
        try:
            changed = describe(settings(name, **{key: value}))
        except BadInput as error:
            assert key in str(error) or "already quantised" in str(error)
        else:
            if changed == plain:
                passed.add(key)
    assert passed - SWITCHED == (UNSEEN.get(name, set()) | EQUAL.get(name, set())) - SWITCHED


@pytest.mark.parametrize("name", ["qwen2", "qwen3"])
def test_a_window_that_is_switched_on_is_seen(name: str) -> None:
    off = describe(settings(name, sliding_window=8, max_window_layers=1))
    on = describe(settings(name, sliding_window=8, max_window_layers=1, use_sliding_window=True))
    assert (off.windows, on.windows) == ((0, 0, 0), (0, 8, 8))
    assert describe(
        settings(name, sliding_window=None, max_window_layers=1, use_sliding_window=True)
    ).windows == (0, 0, 0)


def test_the_windows_of_a_smollm3_are_those_of_layers_without_positions() -> None:
    found = describe(
        settings("smollm3", sliding_window=8, use_sliding_window=True, no_rope_layers=[1, 0, 1])
    )
    assert found.windows == (0, 8, 0)
    assert found.unrotated == {1}


def test_real_settings_are_all_understood(shared_data: Path) -> None:
    folders = sorted((shared_data / "configs").iterdir())
    assert len(folders) >= 16
    for folder in folders:
        assert describe(read_config(folder)).sizes.layers > 10


HARMLESS: dict[str, Any] = {
    "torch_dtype": "bfloat16",
    "auto_map": {"AutoModel": "modeling.Model"},
    "attention_dropout": 0.1,
    "pretraining_tp": 2,
    "use_mrope": False,
    "some_key_of_tomorrow": None,
    "layer_types": ["full_attention"] * 3,
    "sliding_window": None,
    "num_nextn_predict_layers": 0,
    "unsloth_version": "2025.1",
}


def test_harmless_keys_pass_and_change_nothing() -> None:
    assert describe(settings("llama", **HARMLESS)) == describe(settings("llama"))


def test_a_key_that_nobody_knows_is_named_with_its_value_and_what_to_do() -> None:
    with pytest.raises(BadInput) as caught:
        describe(settings("llama", attn_logit_softcapping=30.0))
    assert str(caught.value) == (
        "config.json sets 'attn_logit_softcapping' to 30.0, which pitool does not support for a"
        " 'llama' model: report this model, or remove the key from config.json if the model"
        " does not depend on it"
    )


def test_weights_that_are_quantised_already() -> None:
    with pytest.raises(BadInput, match=r"already quantised \(gptq\): convert the original"):
        describe(settings("llama", quantization_config={"quant_method": "gptq"}))
    with pytest.raises(BadInput, match="already quantised"):
        describe(settings("llama", quantization={"bits": 4, "group_size": 64}))


def test_the_configurations_of_transformers_are_all_understood() -> None:
    """Nothing that the library itself writes for a family is refused."""
    transformers = pytest.importorskip("transformers")
    sizes = {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 6,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    }  # fmt: skip
    small: dict[str, dict[str, Any]] = {
        "qwen3_moe": {"norm_topk_prob": True},
        "gemma3n_text": {"num_kv_shared_layers": 0},
    }
    known = set(TABLE) & set(transformers.CONFIG_MAPPING)
    assert len(known) > 15
    for name in sorted(known - {"gemma3", "gemma3n"}):
        more = small.get(name, {})
        made = transformers.AutoConfig.for_model(name, **(sizes if name != "gpt2" else {}), **more)
        values = {**made.to_dict(), "model_type": name}
        assert describe(Config(values, Path("config.json"))).model_type == name

"""Tiny checkpoints of every native family, made by transformers itself with random weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.oracle import short_tokenizer
from tests.tiny import write_tokenizer

# A SentencePiece model, which llama.cpp's converter wants of some families.
SHORT = "short"

SMALL: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 0,
}  # fmt: skip
GEMMA = {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
LONGROPE = {
    "type": "longrope", "long_factor": [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0],
    "short_factor": [1.0, 1.0, 1.1, 1.1, 1.2, 1.2, 1.3, 1.3],
}  # fmt: skip
MOE = {
    "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "head_dim": 32,
    "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": True,
}  # fmt: skip


HYBRID = {
    "layer_types": ["mamba", "attention", "mamba"], "mamba_n_heads": 4, "mamba_d_state": 16,
    "shared_intermediate_size": 64, "attention_multiplier": 0.2, "embedding_multiplier": 3.0,
    "residual_multiplier": 0.6, "logits_scaling": 2.0, "num_experts_per_tok": 2,
}  # fmt: skip


GPT_OSS = {
    "head_dim": 32, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 16,
    "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
}  # fmt: skip
GEMMA3N = {
    "head_dim": 32, "intermediate_size": 4096, "num_hidden_layers": 5, "sliding_window": 16,
    "hidden_size_per_layer_input": 256, "vocab_size_per_layer_input": 1000,
    "num_kv_shared_layers": 0,
    "activation_sparsity_pattern": [0.95] * 5,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """A model by ``model_type``; ``words``: one of the real tokenizers, ``SHORT``, or a tiny one.

    ``converted``: whether llama.cpp's converter can do it; it fails at StableLM's norms by head,
    and at a GLM without GLM's own tokenizer.
    """

    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    words: str = ""
    converted: bool = True


CASES: dict[str, Case] = {
    "llama": Case("llama", {"rope_scaling": LLAMA3, "tie_word_embeddings": True}),
    "llama-dynamic": Case("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
    "mistral": Case("mistral", {"sliding_window": None, "head_dim": 32}, SHORT),
    "mixtral": Case(
        "mixtral", {"num_local_experts": 8, "num_experts_per_tok": 2, "head_dim": 32}, SHORT
    ),
    "olmoe": Case(
        "olmoe", {"num_experts": 8, "num_experts_per_tok": 2, "num_key_value_heads": 4,
                  "rms_norm_eps": 1e-5},
    ),
    "qwen2": Case("qwen2", {"use_sliding_window": False}),
    "qwen3": Case("qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    "qwen3-untied": Case("qwen3", {"head_dim": 16, "rope_theta": 1e6}),
    "qwen3_moe": Case("qwen3_moe", MOE),
    "ernie4_5": Case("ernie4_5", {"head_dim": 32, "tie_word_embeddings": True}, SHORT),
    "exaone4": Case(
        "exaone4",
        {"sliding_window": None, "layer_types": ["full_attention"] * 3, "rope_scaling": LLAMA3},
    ),
    "glm4": Case("glm4", {"head_dim": 32, "partial_rotary_factor": 0.5}, converted=False),
    "hunyuan": Case(
        "hunyuan_v1_dense",
        {"head_dim": 32, "tie_word_embeddings": True, "eod_token_id": None,
         "max_position_embeddings": 32768,
         "rope_scaling": {"rope_type": "dynamic", "factor": 1.0, "alpha": 1000.0}},
    ),
    "seed_oss": Case("seed_oss", {"head_dim": 32}),
    "gemma2": Case("gemma2", GEMMA, SHORT),
    "gemma3": Case("gemma3_text", {**GEMMA, "num_hidden_layers": 7}, SHORT),
    "gemma3-linear": Case(
        "gemma3_text",
        {**GEMMA, "num_hidden_layers": 6, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
        SHORT,
    ),
    "phi3": Case("phi3", {"original_max_position_embeddings": 256}, SHORT),
    "phi3-longrope": Case(
        "phi3",
        {"rope_scaling": LONGROPE, "original_max_position_embeddings": 256,
         "max_position_embeddings": 512,
         "num_key_value_heads": 4, "sliding_window": 200},
        SHORT,
    ),
    "phi3-partial": Case(
        "phi3", {"partial_rotary_factor": 0.5, "original_max_position_embeddings": 256},
        SHORT,
    ),
    "smollm3": Case("smollm3", {"num_hidden_layers": 5}),
    "granite": Case(
        "granite",
        {"attention_multiplier": 0.2, "embedding_multiplier": 3.0, "residual_multiplier": 0.6,
         "logits_scaling": 2.0, "tie_word_embeddings": True},
    ),
    "granite4": Case(
        "granitemoehybrid",
        {**HYBRID, "num_local_experts": 0, "num_experts_per_tok": 0,
         "shared_intermediate_size": 96},
    ),
    "granite4-experts": Case(
        "granitemoehybrid", {**HYBRID, "num_local_experts": 8, "attention_bias": True},
    ),
    "granite4-attention": Case(
        "granitemoehybrid",
        {**HYBRID, "num_local_experts": 0, "num_experts_per_tok": 0, "shared_intermediate_size": 96,
         "layer_types": ["attention"] * 3, "position_embedding_type": "rope"},
    ),
    "granite4-attention-experts": Case(
        "granitemoehybrid",
        {**HYBRID, "num_local_experts": 8, "layer_types": ["attention"] * 3,
         "position_embedding_type": "rope"},
    ),
    "olmo2": Case("olmo2"),
    "starcoder2": Case("starcoder2", {"use_bias": True}),
    "apertus": Case("apertus", {"rope_scaling": LLAMA3, "rope_theta": 1e6}),
    "gpt_oss": Case("gpt_oss", GPT_OSS),
    "gemma3n": Case("gemma3n_text", GEMMA3N, SHORT),
    "stablelm": Case("stablelm", {"use_qkv_bias": True, "partial_rotary_factor": 0.25}),
    "stablelm-parallel": Case(
        "stablelm",
        {"use_parallel_residual": True, "partial_rotary_factor": 0.5},
    ),
    "stablelm-norms": Case(
        "stablelm", {"qk_layernorm": True, "partial_rotary_factor": 0.5}, converted=False,
    ),
    "gpt2": Case("gpt2", {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 256,
                          "n_ctx": 256}),
    "gpt_neox": Case("gpt_neox", {"rotary_pct": 0.25}),
    "gpt_neox-serial": Case("gpt_neox", {"use_parallel_residual": False, "rotary_pct": 1.0}),
    "lfm2": Case(
        "lfm2",
        {"layer_types": ["conv", "full_attention", "conv"], "block_multiple_of": 16,
         "block_ff_dim": 96, "tie_word_embeddings": True},
    ),
}  # fmt: skip

# Known to llama.cpp's converter alone; that wants a tokenizer which it knows.
FOREIGN = Case("olmo", {"vocab_size": 49152}, "smollm2-135m-instruct")

# llama.cpp's converter leaves out a setting of it: the rotation of neighbours.
LATENT = {"q_lora_rank": 32, "kv_lora_rank": 32, "qk_rope_head_dim": 16, "qk_nope_head_dim": 16,
          "v_head_dim": 16, "num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 1,
          "topk_group": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1,
          "moe_intermediate_size": 32}  # fmt: skip
MISREAD: dict[str, dict[str, Any]] = {
    "deepseek_v3": LATENT,
}
# The same where it leaves out nothing.
READ: dict[str, dict[str, Any]] = {"olmo": {}}
FALLBACKS: dict[str, Case] = {
    name: Case(name.partition("-")[0], settings) for name, settings in {**MISREAD, **READ}.items()
}


def write_case(case: Case, folder: Path, shared_data: Path) -> Path:
    """Write the checkpoint of a case in float32 with its tokenizer; return its folder."""
    import torch
    import transformers

    torch.manual_seed(0)
    size = short_tokenizer.SIZE if case.words else 512
    settings = {**SMALL, "vocab_size": size, **case.settings}
    if case.kind == "gpt2":
        settings = {k: v for k, v in settings.items() if k not in SMALL or k.endswith("_id")}
    config = transformers.AutoConfig.for_model(case.kind, **settings)
    with transformers.modeling_utils.no_init_weights():
        model = transformers.AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.normal_(0, 1.5 / weight.shape[-1] ** 0.5)
            else:
                centred = name.endswith("bias") or case.kind.startswith("gemma")
                weight.normal_(0.0 if centred else 1.0, 0.1)
    model.save_pretrained(folder)
    if case.words == SHORT:
        short_tokenizer.write(shared_data / "tokenizers" / "tinyllama-chat", folder)
    elif case.words:
        for path in (shared_data / "tokenizers" / case.words).iterdir():
            shutil.copyfile(path, folder / path.name)
    else:
        write_tokenizer(folder, size)
    _complete(folder, case)
    _mend(folder / "model.safetensors")
    return folder


def _mend(path: Path) -> None:
    """Give a tensor of Gemma 3n, whose name transformers 4 garbles, the name that it has."""
    from safetensors.numpy import load_file, save_file

    garbled, name = "per_layer_model.language_model_projection", "per_layer_model_projection"
    tensors = load_file(path)
    if any(garbled in each for each in tensors):
        mended = {each.replace(garbled, name): tensor for each, tensor in tensors.items()}
        save_file(mended, path, {"format": "pt"})


def _complete(folder: Path, case: Case) -> None:
    """Write the settings that transformers leaves out of config.json."""
    path = folder / "config.json"
    values = json.loads(path.read_text())
    if case.kind == "gpt2":
        values["n_ctx"] = values["n_positions"]
    path.write_text(json.dumps(values))

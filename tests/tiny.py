"""Writes tiny checkpoints in Hugging Face layout: random weights, a real tokenizer.

Everything is made here from a seed, so that no test needs a download. The tokenizer is trained
on the spot by the tokenizers library.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "eos_token_id": 2,
}
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = """The quick brown fox jumps over the lazy dog. A Raspberry Pi has 4 cores and 8 GB of
memory; it costs less than 100 dollars. def main(): return 42  # naïve café 日本語 🚀
"""


def write_checkpoint(
    folder: Path, *, kind: str = "BF16", shards: int = 1, seed: int = 0, **changes: Any
) -> Path:
    """Write a checkpoint; ``changes`` override the settings of ``LLAMA``. Return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**LLAMA, **changes}
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    write_tokenizer(folder, config["vocab_size"])
    tensors = random_tensors(config, seed)
    stored = {name: _stored(array, kind) for name, array in tensors.items()}
    _write_shards(folder, stored, shards)
    return folder


def random_tensors(config: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Return the tensors of a Llama or Qwen2 by their names in transformers, float32."""
    rng = np.random.default_rng(seed)
    hidden, ffn = config["hidden_size"], config["intermediate_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    dim = config.get("head_dim", hidden // heads)

    def matrix(rows: int, columns: int) -> np.ndarray[Any, Any]:
        return rng.normal(0, 1.5 / np.sqrt(columns), (rows, columns)).astype(np.float32)

    def vector(size: int, mean: float = 1.0) -> np.ndarray[Any, Any]:
        return rng.normal(mean, 0.1, size).astype(np.float32)

    tensors = {
        "model.embed_tokens.weight": matrix(config["vocab_size"], hidden),
        "model.norm.weight": vector(hidden),
    }
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = matrix(config["vocab_size"], hidden)
    qkv_bias = config["model_type"] == "qwen2" or config.get("attention_bias", False)
    shapes = {
        "self_attn.q_proj": (heads * dim, hidden, qkv_bias),
        "self_attn.k_proj": (kv_heads * dim, hidden, qkv_bias),
        "self_attn.v_proj": (kv_heads * dim, hidden, qkv_bias),
        "self_attn.o_proj": (hidden, heads * dim, config.get("attention_bias", False)),
        "mlp.gate_proj": (ffn, hidden, config.get("mlp_bias", False)),
        "mlp.up_proj": (ffn, hidden, config.get("mlp_bias", False)),
        "mlp.down_proj": (hidden, ffn, config.get("mlp_bias", False)),
    }
    for i in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{i}."
        tensors[f"{prefix}input_layernorm.weight"] = vector(hidden)
        tensors[f"{prefix}post_attention_layernorm.weight"] = vector(hidden)
        for name, (rows, columns, bias) in shapes.items():
            tensors[f"{prefix}{name}.weight"] = matrix(rows, columns)
            if bias:
                tensors[f"{prefix}{name}.bias"] = vector(rows, 0.0)
    return tensors


def _stored(array: np.ndarray[Any, Any], kind: str) -> np.ndarray[Any, Any]:
    import ml_dtypes

    types: dict[str, Any] = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
    return array.astype(types[kind])


def _write_shards(folder: Path, tensors: dict[str, np.ndarray[Any, Any]], shards: int) -> None:
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return
    names = list(tensors)
    weight_map: dict[str, str] = {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[i::shards]}
        save_file(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def write_tokenizer(folder: Path, size: int) -> None:
    """Write a byte-level BPE tokenizer of ``size`` tokens, trained on the spot."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT] * 4, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))

"""The model families: who writes each, and who has a forward pass of it.

What is native in ONNX, what has a forward pass in float32, and what ``--effort`` does, follows from
the description of typical settings of each family.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pitool.architectures.description import Description
from pitool.architectures.table import TABLE, describe, find
from pitool.checkpoint.config import Config
from pitool.convert.folding import folds_of
from pitool.convert.layerwise import hindrance
from pitool.convert.numpy_forward import incomputable
from pitool.convert.onnx.fused import inexpressible
from scripts.reference.markdown import code

TYPICAL: dict[str, Any] = {
    "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
    "num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": 32000,
    "max_position_embeddings": 2048,
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "apertus": {"hidden_act": "xielu"},
    "bert": {"hidden_act": "gelu"},
    "gemma3n_text": {
        "layer_types": ["full_attention"] * 12, "num_kv_shared_layers": 0,
        "activation_sparsity_pattern": [0.95] * 12,
    },
    "lfm2_moe": {"layer_types": ["full_attention"] * 12},
    "qwen3_moe": {"norm_topk_prob": True},
}  # fmt: skip


def lines() -> Iterator[str]:
    """Yield the lines of the table: a family, who writes it, and who has a forward pass of it."""
    yield "| models | `model_type` | GGUF | ONNX | forward pass | `--effort` |"
    yield "|---|---|---|---|---|---|"
    names: dict[str, list[str]] = {}
    for name, module in TABLE.items():
        names.setdefault(module, []).append(name)
    for kinds in sorted(names.values()):
        yield _row(kinds)
    yield (
        "| every other | | by llama.cpp's own converter | by optimum, if it supports the model |"
        " transformers | no |"
    )


def _row(kinds: list[str]) -> str:
    architecture = find(kinds[0])
    assert architecture
    name = kinds[-1]
    model = describe(Config({**TYPICAL, "model_type": name, **OWN.get(name, {})}, Path(name)))
    gguf = "native" if architecture.gguf else "by llama.cpp's own converter"
    newer = architecture.transformers > 4
    exported = "no" if newer or model.encoder else "by optimum, if it supports the model"
    onnx = exported if inexpressible(model) else "native"
    theirs = f"transformers {architecture.transformers}" if newer else "transformers"
    certified = theirs if incomputable(model) else f"{theirs} or pitool"
    return (
        f"| {architecture.title} | {code(kinds)} | {gguf} | {onnx} | {certified} |"
        f" {_effort(model)} |"
    )


def _effort(model: Description) -> str:
    """Say whether errors are fed back, and into what scales are folded."""
    if hindrance(model):
        return "no"
    layers = range(model.sizes.layers)
    folded = dict.fromkeys(fold.into for i in layers for fold in folds_of(model, i))
    return "feedback" + f"; scales in {', '.join(folded)}" * bool(folded)

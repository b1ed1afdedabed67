"""Writes a tiny BERT for embeddings: random weights, a WordPiece tokenizer, a pooling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import BertWordPieceTokenizer
from tokenizers.processors import TemplateProcessing

from tests.tiny import TEXT

BERT: dict[str, Any] = {
    "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": 64,
    "intermediate_size": 128, "layer_norm_eps": 1e-12, "max_position_embeddings": 128,
    "num_attention_heads": 4, "num_hidden_layers": 3, "pad_token_id": 0, "type_vocab_size": 2,
    "position_embedding_type": "absolute", "vocab_size": 300,
}  # fmt: skip
MEAN, CLS = "pooling_mode_mean_tokens", "pooling_mode_cls_token"


def write_bert(folder: Path, pooling: str = MEAN, seed: int = 0, **changes: Any) -> Path:
    """Write a checkpoint; ``changes`` override the settings of ``BERT``. Return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**BERT, **changes}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(_tensors(config, seed), folder / "model.safetensors")
    _write_tokenizer(folder, config["vocab_size"])
    kind = "sentence_transformers.models.Pooling"
    (folder / "modules.json").write_text(json.dumps([{"path": "1_Pooling", "type": kind}]))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({pooling: True}))
    return folder


def _tensors(config: dict[str, Any], seed: int) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    made: dict[str, np.ndarray[Any, Any]] = {}

    def matrix(name: str, rows: int, columns: int, *, bias: bool = True) -> None:
        made[f"{name}.weight"] = rng.normal(0, 2 / np.sqrt(columns), (rows, columns))
        if bias:
            made[f"{name}.bias"] = rng.normal(0, 0.1, rows)

    def norm(name: str) -> None:
        made[f"{name}.weight"], made[f"{name}.bias"] = (rng.normal(m, 0.1, hidden) for m in (1, 0))

    for name, rows in (("word", config["vocab_size"]), ("position", 128), ("token_type", 2)):
        matrix(f"embeddings.{name}_embeddings", rows, hidden, bias=False)
    norm("embeddings.LayerNorm")
    for i in range(config["num_hidden_layers"]):
        here = f"encoder.layer.{i}"
        for name in ("query", "key", "value"):
            matrix(f"{here}.attention.self.{name}", hidden, hidden)
        matrix(f"{here}.attention.output.dense", hidden, hidden)
        matrix(f"{here}.intermediate.dense", wide, hidden)
        matrix(f"{here}.output.dense", hidden, wide)
        norm(f"{here}.attention.output.LayerNorm")
        norm(f"{here}.output.LayerNorm")
    return {name: array.astype(np.float32) for name, array in made.items()}


def _write_tokenizer(folder: Path, size: int) -> None:
    tokenizer = BertWordPieceTokenizer()
    tokenizer.train_from_iterator([TEXT] * 4, vocab_size=size, show_progress=False)
    ids = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    names = ("unk", "sep", "pad", "cls", "mask")
    settings = {f"{name}_token": f"[{name.upper()}]" for name in names}
    settings |= {"do_lower_case": True, "tokenizer_class": "BertTokenizer"}  # type: ignore[dict-item]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))

"""What lies in an ONNX folder beside the graph: ``genai_config.json`` and the tokenizer's files."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pitool.catalog import reading
from pitool.catalog.onnx import CHAT_TEMPLATE, CONFIG, TOKENIZER, TOKENIZER_CONFIG
from pitool.checkpoint.source import Checkpoint
from pitool.convert.onnx.graph import GRAPH
from pitool.errors import BadInput

COPIED = (
    TOKENIZER,
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    CHAT_TEMPLATE,
)


@dataclass(frozen=True, slots=True)
class GraphSizes:
    """What a graph's inputs are shaped by; ``head_dim`` as its KV cache has it."""

    layers: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    heads: int
    hidden: int


def without_tokenizer(checkpoint: Path) -> BadInput | None:
    """Return why the ONNX engine could not read text for a checkpoint; None when it can."""
    if (checkpoint / TOKENIZER).is_file():
        return None
    return BadInput(
        f"{checkpoint} has no {TOKENIZER}, which the ONNX engine needs",
        "create it with transformers: AutoTokenizer.from_pretrained(...).save_pretrained(...)",
    )


def copy_tokenizer(checkpoint: Path, folder: Path) -> None:
    """Copy the tokenizer's files and the chat template of a checkpoint."""
    for each in COPIED:
        if (checkpoint / each).is_file():
            shutil.copyfile(checkpoint / each, folder / each)


def write_settings(
    folder: Path,
    checkpoint: Checkpoint,
    sizes: GraphSizes,
    context: int,
    *,
    fused: bool = True,
) -> None:
    """Write ``genai_config.json``: what onnxruntime-genai and the engine need beside the graph.

    ``fused``: the KV cache is one buffer, and the graph counts positions itself.
    """
    config = checkpoint.config
    positions = {} if fused else {"position_ids": "position_ids"}
    generation = _json(checkpoint.folder / "generation_config.json")
    ends = generation.get("eos_token_id", config.values.get("eos_token_id"))
    first = ends[0] if isinstance(ends, list) and ends else ends
    pad = config.values.get("pad_token_id")
    model = {
        "bos_token_id": config.values.get("bos_token_id") or 0,
        "context_length": context,
        "decoder": {
            "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
            "filename": GRAPH,
            "head_size": sizes.head_dim,
            "hidden_size": sizes.hidden,
            "inputs": {
                "input_ids": "input_ids",
                "attention_mask": "attention_mask",
                **positions,
                "past_key_names": "past_key_values.%d.key",
                "past_value_names": "past_key_values.%d.value",
            },
            "outputs": {
                "logits": "logits",
                "present_key_names": "present.%d.key",
                "present_value_names": "present.%d.value",
            },
            "num_attention_heads": sizes.heads,
            "num_hidden_layers": sizes.layers,
            "num_key_value_heads": sizes.kv_heads,
        },
        "eos_token_id": 0 if ends is None else ends,
        "pad_token_id": first if pad is None else pad,
        "type": config.model_type,
        "vocab_size": sizes.vocabulary,
    }
    search = {
        "do_sample": False,
        "max_length": context,
        "min_length": 0,
        "num_beams": 1,
        "num_return_sequences": 1,
        "past_present_share_buffer": fused,
        "repetition_penalty": 1.0,
        "temperature": 1.0,
        "top_k": 50,
        "top_p": 1.0,
    }
    text = json.dumps({"model": model, "search": search}, indent=4)
    (folder / CONFIG).write_text(text, encoding="utf-8")


def _json(path: Path) -> dict[str, Any]:
    """Return the settings of an optional file."""
    return reading.read_object(path, "download it again") if path.is_file() else {}

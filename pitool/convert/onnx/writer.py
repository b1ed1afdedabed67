"""Writes the ONNX folder of a checkpoint: graph, data, configuration and tokenizer.

The layout is that of onnxruntime-genai's model builder, so that the folder runs there too.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pitool.checkpoint.config import Config
from pitool.checkpoint.source import Checkpoint
from pitool.convert.onnx.decoder import DecoderGraph
from pitool.convert.onnx.families import Decoder, read_decoder, refusal
from pitool.convert.onnx.graph import GRAPH, Graph
from pitool.convert.onnx.rotary import longest_exact
from pitool.convert.onnx.weights import EMBEDDING, HEAD, OnBytes, Weights
from pitool.spec.onnx import CHAT_TEMPLATE, CONFIG, TOKENIZER, TOKENIZER_CONFIG
from pitool.spec.onnx_weights import OnnxQuantisation, padded_head

# Rotations are stored for so many positions unless more are planned: longer prompts than a board
# processes in minutes.
POSITIONS = 32768
MakeWeights = Callable[[Graph, Checkpoint, OnnxQuantisation, OnBytes], Weights]
COPIED = (
    TOKENIZER,
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    CHAT_TEMPLATE,
)


def write_onnx(
    folder: Path,
    checkpoint: Checkpoint,
    kind: OnnxQuantisation,
    *,
    context: int = 0,
    on_bytes: OnBytes = lambda _: None,
    on_layer: Callable[[], None] = lambda: None,
    make_weights: MakeWeights = Weights,
) -> Path:
    """Write the model at ``kind`` into ``folder``, which is made; return the folder.

    ``context``: tokens that it must take, within what it was trained for. ``on_bytes`` hears of
    stored bytes; ``make_weights`` stores matrices otherwise. BadInput for a family or setting
    that the graph cannot express.
    """
    config = checkpoint.config
    decoder = read_decoder(config)
    if wrong := refusal(config, kind):
        raise wrong
    folder.mkdir(parents=True)
    positions = stored_positions(config, decoder, context)
    name = checkpoint.source.id.rpartition("/")[2]
    count = str(_count(checkpoint, decoder))
    with Graph(folder) as graph:
        weights = make_weights(graph, checkpoint, kind, on_bytes)
        DecoderGraph(graph, weights, decoder, positions, on_layer).build()
        graph.save(name, {"name": name, "quantisation": kind.name, "parameters": count})
    write_config(folder, checkpoint, decoder, positions)
    for each in COPIED:
        if (checkpoint.folder / each).is_file():
            shutil.copyfile(checkpoint.folder / each, folder / each)
    return folder


def stored_positions(config: Config, decoder: Decoder, context: int = 0) -> int:
    """Return for how many positions rotations are stored: the longest context of the artifact."""
    trained = decoder.sizes.context
    return longest_exact(config, min(trained, max(POSITIONS, context)))


def _count(checkpoint: Checkpoint, decoder: Decoder) -> int:
    """Return the number of weights, a shared matrix counted once."""
    sizes = [
        (name, tensor.bytes // (4 if tensor.kind == "F32" else 2))
        for name, tensor in checkpoint.tensors.items()
    ]
    twice = {HEAD} if decoder.tied and EMBEDDING in checkpoint.tensors else set()
    return sum(size for name, size in sizes if name not in twice)


def write_config(folder: Path, checkpoint: Checkpoint, decoder: Decoder, context: int) -> None:
    """Write ``genai_config.json``: what onnxruntime-genai and the engine need beside the graph."""
    config, sizes = checkpoint.config, decoder.sizes
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
            "head_size": padded_head(sizes.head_dim),
            "hidden_size": sizes.hidden,
            "inputs": {
                "input_ids": "input_ids",
                "attention_mask": "attention_mask",
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
        "past_present_share_buffer": True,
        "repetition_penalty": 1.0,
        "temperature": 1.0,
        "top_k": 50,
        "top_p": 1.0,
    }
    text = json.dumps({"model": model, "search": search}, indent=4)
    (folder / CONFIG).write_text(text, encoding="utf-8")


def _json(path: Path) -> dict[str, Any]:
    """Return the settings of an optional file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

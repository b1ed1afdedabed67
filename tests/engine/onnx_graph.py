"""Makes the fused float32 graph of a Llama with onnx's own helpers, for tests of the engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

MICROSOFT = "com.microsoft"


class Graph:
    """Nodes and initializers as they come, each value by its name."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def weight(self, name: str, array: Any) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(
        self, kind: str, inputs: list[str], outputs: list[str] | str, **attributes: Any
    ) -> str:
        outputs = [outputs] if isinstance(outputs, str) else outputs
        domain = "" if kind in PLAIN else MICROSOFT
        self.nodes.append(helper.make_node(kind, inputs, outputs, domain=domain, **attributes))
        return outputs[0]

    def matmul(self, value: str, name: str, array: Any) -> str:
        return self.node("MatMul", [value, self.weight(f"{name}.weight", array.T)], name)


PLAIN = {"MatMul", "Mul", "Sigmoid", "Gather", "ReduceSum", "Sub", "Cast", "Shape", "Slice", "Neg"}
PLAIN |= {"SimplifiedLayerNormalization"}


def write_folder(checkpoint: Path, folder: Path, *, num_logits: bool = True) -> Path:
    """Write an ONNX folder of a Llama checkpoint; without ``num_logits`` it gives all rows."""
    config = json.loads((checkpoint / "config.json").read_text())
    tensors = {
        name: array.astype(np.float32)
        for name, array in load_file(checkpoint / "model.safetensors").items()
    }
    folder.mkdir(parents=True)
    model = make_model(config, tensors, num_logits=num_logits)
    onnx.save_model(
        model,
        folder / "model.onnx",
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=1024,
    )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoint / name, folder / name)
    write_config(folder, config)
    return folder


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write the configuration as onnxruntime-genai's builder does."""
    heads = config["num_attention_heads"]
    model = {
        "bos_token_id": config["bos_token_id"],
        "context_length": config["max_position_embeddings"],
        "decoder": {
            "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
            "filename": "model.onnx",
            "head_size": config["hidden_size"] // heads,
            "hidden_size": config["hidden_size"],
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
            "num_attention_heads": heads,
            "num_hidden_layers": config["num_hidden_layers"],
            "num_key_value_heads": config["num_key_value_heads"],
        },
        "eos_token_id": config["eos_token_id"],
        "type": "llama",
        "vocab_size": config["vocab_size"],
    }
    (folder / "genai_config.json").write_text(json.dumps({"model": model, "search": {}}))


def make_model(config: dict[str, Any], tensors: dict[str, Any], *, num_logits: bool) -> Any:
    """Return the graph of a Llama with tied embeddings."""
    graph = Graph()
    constant = {
        name: graph.weight(name, np.array(value, np.int64))
        for name, value in {"one": [1], "axis": [1], "end": [2**62], "first": 1}.items()
    }
    _rotary(graph, config)
    summed = graph.node("ReduceSum", ["attention_mask", constant["axis"]], "summed")
    graph.node("Sub", [summed, constant["one"]], "lengths")
    graph.node("Cast", ["lengths"], "seqlens_k", to=TensorProto.INT32)
    graph.node("Shape", ["attention_mask"], "mask_shape")
    graph.node("Gather", ["mask_shape", constant["first"]], "total")
    graph.node("Cast", ["total"], "total_length", to=TensorProto.INT32)
    head = next(n for n in ("model.embed_tokens.weight", "lm_head.weight") if n in tensors)
    embedding = graph.weight("embedding", tensors[head])
    value = graph.node("Gather", [embedding, "input_ids"], "hidden")
    norm, skip = "model.layers.0.input_layernorm", ""
    normed = _norm(graph, config, tensors, norm, value)
    skip = value
    for layer in range(config["num_hidden_layers"]):
        attended = _attention(graph, config, tensors, layer, normed)
        here = f"model.layers.{layer}"
        normed, skip = _skip_norm(
            graph, config, tensors, f"{here}.post_attention_layernorm", attended, skip
        )
        forward = _feed_forward(graph, tensors, layer, normed)
        last = layer + 1 == config["num_hidden_layers"]
        norm = "model.norm" if last else f"model.layers.{layer + 1}.input_layernorm"
        normed, skip = _skip_norm(graph, config, tensors, norm, forward, skip)
    rows = "tokens"
    if num_logits:
        graph.weight("num_logits", np.array([1], np.int64))
        graph.node("Neg", ["num_logits"], "from")
        normed = graph.node("Slice", [normed, "from", constant["end"], constant["axis"]], "last")
        rows = "rows"
    graph.node(
        "MatMul",
        [normed, graph.weight("head", tensors[head].T)],
        "logits",
    )
    return _finish(graph, config, rows, num_logits=num_logits)


def _finish(graph: Graph, config: dict[str, Any], rows: str, *, num_logits: bool) -> Any:
    heads, dim = (
        config["num_key_value_heads"],
        config["hidden_size"] // config["num_attention_heads"],
    )

    def value(name: str, kind: int, shape: list[Any]) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    integer, real = TensorProto.INT64, TensorProto.FLOAT
    inputs = [
        value("input_ids", integer, ["batch", "tokens"]),
        value("attention_mask", integer, ["batch", "total"]),
    ]
    outputs = [value("logits", real, ["batch", rows, config["vocab_size"]])]
    for i in range(config["num_hidden_layers"]):
        for part in ("key", "value"):
            shape = ["batch", heads, "length", dim]
            inputs.append(value(f"past_key_values.{i}.{part}", real, shape))
            outputs.append(value(f"present.{i}.{part}", real, shape))
    if num_logits:
        inputs.append(value("num_logits", integer, [1]))
    made = helper.make_graph(graph.nodes, "llama", inputs, outputs, graph.weights)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=10)
    helper.set_model_props(model, {"name": "Tiny", "quantisation": "FP32", "parameters": "1234"})
    return model


def _rotary(graph: Graph, config: dict[str, Any]) -> None:
    dim = config["hidden_size"] // config["num_attention_heads"]
    steps = np.arange(0, dim, 2, dtype=np.float64) / dim
    angles = np.outer(np.arange(config["max_position_embeddings"]), config["rope_theta"] ** -steps)
    graph.weight("cosines", np.cos(angles).astype(np.float32))
    graph.weight("sines", np.sin(angles).astype(np.float32))


def _norm(graph: Graph, config: dict[str, Any], tensors: Any, name: str, value: str) -> str:
    weight = graph.weight(f"{name}.weight", tensors[f"{name}.weight"])
    return graph.node(
        "SimplifiedLayerNormalization", [value, weight], name, axis=-1,
        epsilon=config["rms_norm_eps"], stash_type=1,
    )  # fmt: skip


def _skip_norm(
    graph: Graph, config: dict[str, Any], tensors: Any, name: str, value: str, skip: str
) -> tuple[str, str]:
    weight = graph.weight(f"{name}.weight", tensors[f"{name}.weight"])
    graph.node(
        "SkipSimplifiedLayerNormalization",
        [value, skip, weight],
        [name, "", "", f"{name}.sum"],
        epsilon=config["rms_norm_eps"],
    )
    return name, f"{name}.sum"


def _attention(graph: Graph, config: dict[str, Any], tensors: Any, layer: int, value: str) -> str:
    here = f"model.layers.{layer}.self_attn"
    query, key, values = (
        graph.matmul(value, f"{here}.{part}", tensors[f"{here}.{part}.weight"])
        for part in ("q_proj", "k_proj", "v_proj")
    )
    past, present = f"past_key_values.{layer}", f"present.{layer}"
    attended = graph.node(
        "GroupQueryAttention",
        [query, key, values, f"{past}.key", f"{past}.value", "seqlens_k", "total_length",
         "cosines", "sines"],
        [f"{here}.attended", f"{present}.key", f"{present}.value"],
        num_heads=config["num_attention_heads"],
        kv_num_heads=config["num_key_value_heads"],
        do_rotary=1,
    )  # fmt: skip
    return graph.matmul(attended, f"{here}.o_proj", tensors[f"{here}.o_proj.weight"])


def _feed_forward(graph: Graph, tensors: Any, layer: int, value: str) -> str:
    here = f"model.layers.{layer}.mlp"
    gate = graph.matmul(value, f"{here}.gate_proj", tensors[f"{here}.gate_proj.weight"])
    up = graph.matmul(value, f"{here}.up_proj", tensors[f"{here}.up_proj.weight"])
    act = graph.node("Mul", [gate, graph.node("Sigmoid", [gate], f"{here}.sigmoid")], f"{here}.act")
    both = graph.node("Mul", [act, up], f"{here}.both")
    return graph.matmul(both, f"{here}.down_proj", tensors[f"{here}.down_proj.weight"])

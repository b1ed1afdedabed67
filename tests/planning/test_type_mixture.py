"""Which tensor gets which type: against llama.cpp's own dry run, for every quantisation."""

from __future__ import annotations

import ctypes
import json
import os
import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from pitool.catalog.binding import import_binding
from pitool.catalog.model_shape import ModelShape
from pitool.catalog.tensor_types import QUANTISATIONS, Quantisation
from pitool.checkpoint.config import read_config
from pitool.convert.gguf.model import model_shape
from pitool.planning.type_mixture import assign_types
from tests.planning.shapes import shape

SHAPES: dict[str, dict[str, Any]] = {
    "llama-tied": {},
    "llama-untied": {"tie_word_embeddings": False},
    "one-layer": {"num_hidden_layers": 1},
    "multi-head": {"num_key_value_heads": 8, "num_hidden_layers": 9},
    "gqa-4": {"num_attention_heads": 8, "num_key_value_heads": 2, "num_hidden_layers": 5},
    "gqa-8-untied": {"num_key_value_heads": 1, "tie_word_embeddings": False},
    "12-layers": {"num_hidden_layers": 12},
    "16-layers-untied": {"num_hidden_layers": 16, "tie_word_embeddings": False},
    "33-layers": {"num_hidden_layers": 33, "num_key_value_heads": 2},
    "row-576": {"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9,
                "num_key_value_heads": 3, "num_hidden_layers": 8},
    "row-576-untied": {"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9,
                       "num_key_value_heads": 3, "tie_word_embeddings": False},
    "ffn-row-288": {"intermediate_size": 288, "num_hidden_layers": 8},
    "row-48": {"hidden_size": 48, "intermediate_size": 72, "num_attention_heads": 4,
               "num_key_value_heads": 2},
    "row-48-untied": {"hidden_size": 48, "intermediate_size": 72, "num_attention_heads": 4,
                      "num_key_value_heads": 4, "tie_word_embeddings": False},
    "head-dim": {"head_dim": 64},
    "llama3-rope": {
        "rope_scaling": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 512,
        }
    },
    "80-layers-of-llama": {"num_hidden_layers": 80, "intermediate_size": 256},
    "qwen2": {"model_type": "qwen2", "num_hidden_layers": 24},
    "qwen2-untied-gqa-8": {
        "model_type": "qwen2", "num_key_value_heads": 1, "tie_word_embeddings": False,
        "num_hidden_layers": 17,
    },
    "qwen2-row-896": {"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 1216,
                      "num_attention_heads": 14, "num_key_value_heads": 2},
    "80-layers-multi-head": {"num_hidden_layers": 80, "num_key_value_heads": 8,
                             "intermediate_size": 256},
    "80-layers-of-qwen2": {"model_type": "qwen2", "num_hidden_layers": 80,
                           "intermediate_size": 256},
    "80-layers-of-qwen2-multi-head": {"model_type": "qwen2", "num_hidden_layers": 80,
                                      "num_key_value_heads": 8, "intermediate_size": 256},
    "experts-8": {"model_type": "qwen3_moe", "head_dim": 32, "num_experts": 8,
                  "num_experts_per_tok": 2, "moe_intermediate_size": 256, "norm_topk_prob": True,
                  "num_hidden_layers": 9},
    "experts-16": {"model_type": "qwen3_moe", "head_dim": 32, "num_experts": 16,
                   "num_experts_per_tok": 2, "moe_intermediate_size": 256,
                   "norm_topk_prob": True, "num_hidden_layers": 9},
    "phi3": {"model_type": "phi3", "num_hidden_layers": 17, "tie_word_embeddings": False},
    "gemma3": {"model_type": "gemma3_text", "num_hidden_layers": 18, "head_dim": 64,
               "query_pre_attn_scalar": 64},
}  # fmt: skip


def write_header(path: Path, model: ModelShape) -> None:
    """Write a GGUF of zeros, as a hole in the file: a dry run reads no weights."""
    writer = gguf.GGUFWriter(None, model.architecture)
    prefix = model.architecture
    writer.add_uint32(f"{prefix}.block_count", model.layers)
    writer.add_uint32(f"{prefix}.context_length", model.context)
    writer.add_uint32(f"{prefix}.embedding_length", model.hidden)
    writer.add_uint32(f"{prefix}.feed_forward_length", model.feed_forward)
    writer.add_uint32(f"{prefix}.attention.head_count", model.heads)
    writer.add_uint32(f"{prefix}.attention.head_count_kv", model.kv_heads)
    writer.add_uint32(f"{prefix}.attention.key_length", model.head_dim)
    writer.add_uint32(f"{prefix}.attention.value_length", model.head_dim)
    writer.add_float32(f"{prefix}.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_uint32(f"{prefix}.vocab_size", model.vocabulary)
    if model.experts:
        writer.add_uint32(f"{prefix}.expert_count", model.experts)
        writer.add_uint32(f"{prefix}.expert_used_count", model.experts_used)
    writer.add_tokenizer_model("no_vocab")
    size = 0
    for tensor in model.tensors:
        writer.add_tensor_info(
            tensor.name, tensor.shape, np.dtype(np.float32), tensor.weights * 4,
            gguf.GGMLQuantizationType.F32,
        )  # fmt: skip
        size += -(-tensor.weights * 4 // 32) * 32
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    start = -(-path.stat().st_size // 32) * 32
    os.truncate(path, start + size)


_LINE = re.compile(r"\] +(\S+) +- \[[^]]*\], type = +(\w+), size = [^(\n]*(?:\((\w+)\))?")
_BITS = re.compile(r"quant size +=.*\(([\d.]+) BPW\)")


def dry_run(
    path: Path, number: int, model: ModelShape | None = None
) -> tuple[dict[str, str], float]:
    """Return the type of each tensor and the bits per weight that llama.cpp would write.

    ``model``: its matrices all have an importance of ones.
    """
    llama_cpp = import_binding()
    lines: list[str] = []

    def log(_level: int, text: bytes, _: Any) -> None:
        lines.append(text.decode(errors="replace"))

    callback = llama_cpp.llama_log_callback(log)
    _callbacks.append(callback)  # llama.cpp keeps the last one
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.dry_run, params.nthread = number, True, 1
    table = (llama_cpp.llama_model_imatrix_data * (len(model.tensors if model else ()) + 1))()
    kept = []
    for entry, tensor in zip(table, model.tensors if model else (), strict=False):
        experts = tensor.shape[0] if len(tensor.shape) > 2 else 1
        values = np.ones(experts * tensor.shape[-1], np.float32)
        kept.append(values)
        entry.name, entry.size = tensor.name.encode(), values.size
        entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    if model:
        params.imatrix = table
    target = path.with_suffix(".none")
    status = llama_cpp.llama_model_quantize(
        os.fsencode(path), os.fsencode(target), ctypes.byref(params)
    )
    text = "".join(lines)
    assert status == 0, text[-2000:]
    assert not target.exists()
    types = {name: (new or old).upper() for name, old, new in _LINE.findall(text)}
    bits = _BITS.search(text)
    assert bits, text[-500:]
    return types, float(bits[1])


_callbacks: list[Any] = []


@pytest.mark.thorough
@pytest.mark.engine
@pytest.mark.parametrize("importance", [False, True], ids=["plain", "importance"])
@pytest.mark.parametrize("case", SHAPES)
def test_types_are_those_of_llama_cpps_dry_run(tmp_path: Path, case: str, importance: bool) -> None:
    model = shape(**SHAPES[case])
    path = tmp_path / "holes.gguf"
    write_header(path, model)
    for quantisation in QUANTISATIONS.values():
        if quantisation.name == "F32":
            continue  # it would be no change, and llama.cpp then copies norms only
        if not is_made(quantisation, model):
            with pytest.raises(AssertionError):
                dry_run(path, quantisation.number)
            continue
        typed = assign_types(model, quantisation, importance=importance)
        types, bits = dry_run(path, quantisation.number, model if importance else None)
        assert {t.tensor.name: t.type.name for t in typed} == types, quantisation.name
        ours = sum(t.bytes for t in typed) * 8 / model.parameters
        assert ours == pytest.approx(bits, abs=0.006), quantisation.name


def is_made(quantisation: Quantisation, model: ModelShape) -> bool:
    """Tell whether llama.cpp makes a type of a model: NVFP4 never, and Q1_0 has no fallback."""
    rows = [t.shape[-1] for t in model.tensors if len(t.shape) > 1]
    return quantisation.name != "NVFP4" and not (
        quantisation.name == "Q1_0" and any(row % 128 for row in rows)
    )


def test_f32_stays_f32() -> None:
    typed = assign_types(shape(), QUANTISATIONS["F32"])
    assert {t.type.name for t in typed} == {"F32"}
    assert sum(t.bytes for t in typed) == 4 * shape().parameters


# Files on the hub whose tensors llama.cpp chose as it does today: repository, settings, whether
# the embedding is stored twice, quantisations.
PUBLISHED = {
    "Qwen/Qwen2.5-0.5B-Instruct-GGUF": (
        "Qwen2.5-0.5B-Instruct", True, {"Q4_K_M", "Q5_K_M", "Q8_0"},
    ),
    "Qwen/Qwen2.5-1.5B-Instruct-GGUF": (
        "Qwen2.5-1.5B-Instruct", True, {"Q3_K_M", "Q4_K_M", "Q5_K_M", "Q8_0"},
    ),
    "Qwen/Qwen2.5-3B-Instruct-GGUF": ("Qwen2.5-3B", True, {"Q3_K_M", "Q4_K_M", "Q5_K_M", "Q8_0"}),
    "bartowski/Qwen2.5-14B-Instruct-GGUF": ("Qwen2.5-14B-Instruct", True, {"Q4_K_M"}),
    "Qwen/Qwen3-8B-GGUF": ("Qwen3-8B", True, {"Q4_K_M"}),
    "HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF": ("SmolLM2-1.7B-Instruct", False, {"Q4_K_M"}),
    "unsloth/gemma-3-1b-it-GGUF": ("gemma-3-1b-it", False, {"Q4_K_M", "Q8_0"}),
    "bartowski/Llama-3.2-3B-Instruct-GGUF": (
        "Llama-3.2-3B-Instruct", False, {"Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0"},
    ),
    "TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF": (
        "TinyLlama-1.1B-Chat-v1.0", True, {"Q4_K_M", "Q5_K_M", "Q8_0"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("repository", PUBLISHED)
def test_sizes_are_those_of_published_files(shared_data: Path, repository: str) -> None:
    """What a file holds beside its tensors is the same vocabulary at every quantisation."""
    folder, untied, wanted = PUBLISHED[repository]
    config = read_config(shared_data / "configs" / folder)
    config.values["tie_word_embeddings"] = not untied
    model = model_shape(config)
    rest = {}
    for file in json.loads((shared_data / "gguf_sizes.json").read_text()):
        if file["repo"] == repository and file["quant"] in wanted:
            typed = assign_types(model, QUANTISATIONS[file["quant"]])
            rest[file["quant"]] = file["bytes"] - sum(t.bytes for t in typed)
    assert set(rest) == wanted
    assert max(rest.values()) - min(rest.values()) <= 64
    assert 1e6 < min(rest.values()) < 8e6

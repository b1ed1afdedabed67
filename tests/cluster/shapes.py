"""GGUFs of a shape whose weights are a hole in the file: for memory and traffic, not answers.

Each tensor begins with its number, so that no two are the same.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

from pitool.catalog.tensor_types import find_quantisation
from pitool.planning.shapes import dense_shape
from pitool.planning.type_mixture import assign_types


def write_zeros(
    path: Path,
    *,
    layers: int,
    hidden: int,
    feed_forward: int,
    vocabulary: int = 512,
    quantisation: str = "F32",
) -> Path:
    """Write a Llama of a shape; return its path."""
    shape = dense_shape(
        layers, hidden, feed_forward, hidden // 64, hidden // 256, 64, vocabulary, 8192, tied=False
    )
    writer = GGUFWriter(path, "llama")
    writer.add_name(path.stem)
    writer.add_block_count(layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"t{i}" for i in range(vocabulary)])
    writer.add_token_types([1] * vocabulary)
    writer.add_token_merges(["t 1"])
    writer.add_eos_token_id(2)
    starts, size = [], 0
    for tensor in assign_types(shape, find_quantisation(quantisation)):
        writer.add_tensor_info(
            tensor.tensor.name, tensor.tensor.shape, np.dtype(np.float32), tensor.bytes,
            raw_dtype=GGMLQuantizationType[tensor.type.name],
        )  # fmt: skip
        starts.append(size)
        size += -(-tensor.bytes // 32) * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    start = -(-path.stat().st_size // 32) * 32
    os.truncate(path, start + size)
    with path.open("r+b") as file:
        for number, each in enumerate(starts):
            file.seek(start + each)
            file.write(number.to_bytes(4, "little"))
    return path

"""Models of real shapes with random weights, made on this machine: speed depends on the shape only.

    python -m benchmarks.models 135m Q4_0

A checkpoint is written (seeded, with a made-up tokenizer) and converted by pitool's own converter.
They are kept in the user's cache; the checkpoint and the half-precision GGUF are not.
"""

from __future__ import annotations

import json
import os
import string
import struct
import sys
import tempfile
from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.peer import cache, say
from pitool.catalog.tensor_types import QUANTISATIONS, find_quantisation
from pitool.checkpoint.source import find_source, open_checkpoint
from pitool.convert.gguf.model import find_model
from pitool.convert.gguf.quantise import quantise
from pitool.convert.gguf.vocabulary import read_vocabulary
from pitool.convert.gguf.writer import write_gguf
from pitool.convert.onnx.writer import write_onnx
from pitool.planning.onnx_weights import find_onnx_quantisation

SEED = 7
SLAB_WEIGHTS = 1 << 24
END = "<|endoftext|>"

_COMMON = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "bos_token_id": 0,
    "eos_token_id": 0,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
# A shape so small that hundreds of settings can be tried, and those of SmolLM2-135M, Llama-3.2-1B
# and Llama-3.2-3B.
SHAPES: dict[str, dict[str, object]] = {
    "25m": {
        **_COMMON,
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "vocab_size": 8192,
        "max_position_embeddings": 4096,
        "rope_theta": 100000.0,
    },
    "135m": {
        **_COMMON,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "rope_theta": 100000.0,
    },
    "1b": {
        **_COMMON,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rope_theta": 500000.0,
    },
    "3b": {
        **_COMMON,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rope_theta": 500000.0,
    },
}


def gguf(shape: str, quantisation: str) -> Path:
    """Return the path of a model, made first where the cache has none."""
    kind = find_quantisation(quantisation)
    folder = cache() / "models"
    path = folder / f"{shape}-{kind.name}.gguf"
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    say(f"making {path}")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        source = Path(scratch) / shape
        write_checkpoint(source, SHAPES[shape])
        half, made = Path(scratch) / "f16.gguf", Path(scratch) / "made.gguf"
        _convert(source, half)
        quantise(half, made, kind, os.cpu_count() or 1)
        made.replace(path)
    return path


def onnx(shape: str, quantisation: str) -> Path:
    """Return the folder of an ONNX model, made first where the cache has none."""
    kind = find_onnx_quantisation(quantisation)
    folder = cache() / "models" / f"{shape}-{kind.folder}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    say(f"making {folder}")
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        source = Path(scratch) / shape
        write_checkpoint(source, SHAPES[shape])
        checkpoint = open_checkpoint(find_source(str(source), "1gb"))
        write_onnx(Path(scratch) / "made", checkpoint, kind).replace(folder)
    return folder


def _convert(source: Path, target: Path) -> None:
    checkpoint = open_checkpoint(find_source(str(source), "1gb"))
    model = find_model(checkpoint.config)
    vocabulary = read_vocabulary(source, model.shape.vocabulary)
    write_gguf(target, checkpoint, model, vocabulary, QUANTISATIONS["F16"])


def write_checkpoint(folder: Path, config: dict[str, object], *, sparse: bool = False) -> None:
    """Write a checkpoint of random weights in half precision, with a made-up tokenizer.

    ``sparse``: the weights are zeros that take no room on the disk.
    """
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    size = config["vocab_size"]
    assert isinstance(size, int)
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer(size)), encoding="utf-8")
    kind = "PreTrainedTokenizerFast"
    special = {"bos_token": END, "eos_token": END, "tokenizer_class": kind}
    (folder / "tokenizer_config.json").write_text(json.dumps(special), encoding="utf-8")
    (folder / "generation_config.json").write_text("{}", encoding="utf-8")
    _write_weights(folder / "model.safetensors", dict(_shapes(config)), sparse=sparse)


def _shapes(config: dict[str, object]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield names and shapes of a tied Llama's tensors, as transformers stores them."""
    number = {key: value for key, value in config.items() if isinstance(value, int)}
    hidden, wide = number["hidden_size"], number["intermediate_size"]
    head = hidden // number["num_attention_heads"]
    kv = number["num_key_value_heads"] * head
    yield "model.embed_tokens.weight", (number["vocab_size"], hidden)
    for i in range(number["num_hidden_layers"]):
        here = f"model.layers.{i}"
        yield f"{here}.input_layernorm.weight", (hidden,)
        yield f"{here}.self_attn.q_proj.weight", (hidden, hidden)
        yield f"{here}.self_attn.k_proj.weight", (kv, hidden)
        yield f"{here}.self_attn.v_proj.weight", (kv, hidden)
        yield f"{here}.self_attn.o_proj.weight", (hidden, hidden)
        yield f"{here}.post_attention_layernorm.weight", (hidden,)
        yield f"{here}.mlp.gate_proj.weight", (wide, hidden)
        yield f"{here}.mlp.up_proj.weight", (wide, hidden)
        yield f"{here}.mlp.down_proj.weight", (hidden, wide)
    yield "model.norm.weight", (hidden,)


def _write_weights(path: Path, shapes: dict[str, tuple[int, ...]], *, sparse: bool) -> None:
    """Write a safetensors file in half precision, a slab at a time; or a file of holes."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    source = np.random.default_rng(SEED)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        if sparse:
            file.truncate(8 + len(text) + end)
            return
        for shape in shapes.values():
            for slab in _random(source, shape):
                file.write(slab.tobytes())


def _random(source: np.random.Generator, shape: tuple[int, ...]) -> Iterator[NDArray[np.float16]]:
    if len(shape) == 1:
        yield np.ones(shape, np.float16)
        return
    left = prod(shape)
    while left:
        count = min(left, SLAB_WEIGHTS)
        yield (source.standard_normal(count, np.float32) * 0.02).astype(np.float16)
        left -= count


def _tokenizer(size: int) -> dict[str, object]:
    """Return a byte-level BPE of ``size`` tokens: the bytes, then words in small letters.

    What a model of random weights writes is laid out as prose is, at about five characters a token.
    """
    letters = _byte_letters()
    tokens, merges = [END, *letters], []
    # The list grows while it is walked: every word is its longest beginning and one letter more.
    words = [letters[ord(" ")]]
    for word in words:
        for letter in string.ascii_lowercase[: size - len(tokens)]:
            words.append(word + letter)
            tokens.append(word + letter)
            merges.append(f"{word} {letter}")
        if len(tokens) == size:
            break
    added = {"id": 0, "content": END, "special": True, "normalized": False}
    sides = {"lstrip": False, "rstrip": False, "single_word": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "added_tokens": [{**added, **sides}],
        "normalizer": None,
        "pre_tokenizer": {**level, "use_regex": True},
        "post_processor": None,
        "decoder": {**level, "use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": merges,
        },
    }


def _byte_letters() -> list[str]:
    """Return the letter that byte-level BPE writes for each byte, printable bytes as they are."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


if __name__ == "__main__":
    print(gguf(*sys.argv[1:3]))

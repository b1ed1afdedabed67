"""Our GGUF against the one that llama.cpp's own converter makes of the same checkpoint."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from tests.convert.helpers import write_float
from tests.tiny import write_checkpoint

pytest.importorskip("torch")
pytest.importorskip("transformers")

SMALL: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
QWEN2 = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
# Settings, and the real tokenizer with its size; the converter knows no others.
CASES: dict[str, tuple[dict[str, Any], str, int]] = {
    "llama": ({}, "smollm2-135m-instruct", 49152),
    "llama-untied-head-dim": (
        {"tie_word_embeddings": False, "head_dim": 32}, "tinyllama-chat", 32000,
    ),
    "llama-padded": ({}, "tinyllama-chat", 32064),
    "llama3": ({"rope_scaling": LLAMA3}, "smollm2-135m-instruct", 49152),
    "llama-linear": (
        {"rope_scaling": {"type": "linear", "factor": 4.0}}, "tinyllama-chat", 32000,
    ),
    "qwen2": (QWEN2, "qwen2.5", 151936),
    "qwen2-untied-yarn": (
        {**QWEN2, "tie_word_embeddings": False, "rope_scaling": YARN}, "qwen2.5", 151936,
    ),
}  # fmt: skip

# Keys that may differ, and why.
MAY_DIFFER = {
    "GGUF.kv_count": "the number of keys follows from the others",
    "general.sampling": "the converter copies generation_config.json, which a bundle does not use",
}

# Keys that the converter writes with a value that is llama.cpp's default anyway.
DEFAULTS = {
    "tokenizer.ggml.add_bos_token": ("BOOL", False),
    "tokenizer.ggml.add_eos_token": ("BOOL", False),
    "tokenizer.ggml.add_space_prefix": ("BOOL", False),  # byte-level BPE has none
}


def checkpoint(shared_data: Path, folder: Path, case: str) -> Path:
    changes, tokenizer, size = CASES[case]
    write_checkpoint(folder, **{**SMALL, **changes, "vocab_size": size})
    for path in (shared_data / "tokenizers" / tokenizer).iterdir():
        shutil.copyfile(path, folder / path.name)
    return folder


def their_file(source: Path, folder: Path, path: Path, kind: str) -> Path:
    paths = os.pathsep.join([str(source), str(source / "gguf-py")])
    done = subprocess.run(
        [sys.executable, str(source / "convert_hf_to_gguf.py"), str(folder), "--outfile",
         str(path), "--outtype", kind.lower()],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": paths, "NO_LOCAL_GGUF": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return path


def metadata(reader: GGUFReader) -> dict[str, Any]:
    return {
        key: (field.types[0].name, field.contents())
        for key, field in reader.fields.items()
        if not any(key.startswith(prefix) for prefix in MAY_DIFFER)
    }


@pytest.mark.parametrize("kind", ["F16", "BF16", "F32"])
@pytest.mark.parametrize("case", CASES)
def test_the_same_file(
    llama_cpp_source: Path, shared_data: Path, tmp_path: Path, case: str, kind: str
) -> None:
    if kind != "F16" and case not in ("llama", "llama3"):
        pytest.skip("one type shows the metadata")
    folder = checkpoint(shared_data, tmp_path / "Tiny-Test-1B", case)
    ours = GGUFReader(write_float(folder, tmp_path / "ours.gguf", kind))
    theirs = GGUFReader(their_file(llama_cpp_source, folder, tmp_path / "theirs.gguf", kind))
    left = {t.name: (t.shape.tolist(), t.tensor_type) for t in ours.tensors}
    right = {t.name: (t.shape.tolist(), t.tensor_type) for t in theirs.tensors}
    assert left == right
    data = {t.name: t.data.tobytes() for t in theirs.tensors}
    for tensor in ours.tensors:
        assert tensor.data.tobytes() == data[tensor.name], tensor.name
    mine, other = metadata(ours), metadata(theirs)
    differing = {
        key: (str(mine.get(key))[:200], str(other.get(key))[:200])
        for key in mine.keys() | other.keys()
        if mine.get(key) != other.get(key)
        and not (key not in mine and key in DEFAULTS and other[key] == DEFAULTS[key])
    }
    assert differing == {}

"""What of two GGUFs has to be the same, ours and llama.cpp's."""

from __future__ import annotations

from typing import Any

import numpy as np
from gguf import GGUFReader

# Keys that may differ, and why.
MAY_DIFFER = {
    "GGUF.kv_count": "the number of keys follows from the others",
    "general.sampling": "the converter copies generation_config.json, which a bundle does not use",
}

# Keys that the converter writes with a value that is llama.cpp's default anyway.
DEFAULTS = {
    "tokenizer.ggml.add_bos_token": ("BOOL", False),
    "tokenizer.ggml.add_eos_token": ("BOOL", False),
    # Byte-level BPE has none, and the tests' Gemmas borrow a tokenizer that puts one.
    "tokenizer.ggml.add_space_prefix": ("BOOL", False),
}

# The context of a file ends with a window that llama.cpp leaves out.
SHORTENED = {"phi3.context_length": {512: 200}}

# Keys that we write and the converter leaves out of some families.
ADDED = {
    "gemma4.final_logit_softcapping": "llama.cpp caps a model without a cap where it is missing",
    "general.file_type": "GPT-NeoX's converter forgets it",
    "tokenizer.ggml.eot_token_id": "an end that only config.json or the template names",
}


def metadata(reader: GGUFReader) -> dict[str, Any]:
    return {
        key: (field.types[0].name, field.contents())
        for key, field in reader.fields.items()
        if not any(key.startswith(prefix) for prefix in MAY_DIFFER)
    }


def _sizes(shape: Any) -> list[int]:
    """Return a shape in ggml's order; its quantizer leaves out a last size of one."""
    sizes: list[int] = shape.tolist()
    return sizes[:-1] if len(sizes) == 2 and sizes[-1] == 1 else sizes


def compare(ours: GGUFReader, theirs: GGUFReader) -> None:
    """Hold that two files have the same tensors and metadata, but for what may differ."""
    left = {t.name: (_sizes(t.shape), t.tensor_type) for t in ours.tensors}
    right = {t.name: (_sizes(t.shape), t.tensor_type) for t in theirs.tensors}
    assert left == right
    data = {t.name: t.data for t in theirs.tensors}
    for tensor in ours.tensors:
        if tensor.name.endswith("ssm_a"):  # an exponential, which torch rounds otherwise
            np.testing.assert_array_max_ulp(tensor.data, data[tensor.name], 1)
            continue
        assert tensor.data.tobytes() == data[tensor.name].tobytes(), tensor.name
    mine, other = metadata(ours), metadata(theirs)
    differing = {
        key: (str(mine.get(key))[:200], str(other.get(key))[:200])
        for key in mine.keys() | other.keys()
        if mine.get(key) != other.get(key)
        and not (key not in mine and key in DEFAULTS and other[key] == DEFAULTS[key])
        and not (key not in other and key in ADDED)
    }
    assert all(
        key in SHORTENED and SHORTENED[key][other[key][1]] == mine[key][1] for key in differing
    ), differing

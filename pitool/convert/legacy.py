"""Rewrites the settings of checkpoints saved by transformers 5 for transformers 4.

transformers 4 ignores ``rope_parameters`` and silently uses its default rotation, and it has no
tokenizer class ``TokenizersBackend``. The checkpoint itself is never changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pitool.catalog import reading
from pitool.checkpoint.weights import link_weights

Settings = dict[str, Any]
# Families for which transformers 4 has other names for the rotation's settings.
OLD_NAMES = {
    "gpt_neox": {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
}
FULL, SLIDING = "full_attention", "sliding_attention"
# Other settings that transformers 4 knows by another name, and kinds of layers.
OLD_KEYS = {"qwen3_moe": {"num_local_experts": "num_experts"}}
OLD_TYPES = {"granitemoehybrid": {"linear_attention": "mamba", FULL: "attention"}}


def old_config(values: Settings) -> Settings:
    """Return ``config.json`` in the keys and words that transformers 4 reads."""
    made = {name: value for name, value in values.items() if name != "rope_parameters"}
    if isinstance(made.get("dtype"), str):
        made.setdefault("torch_dtype", made["dtype"])
    kind = str(values.get("model_type"))
    for name, old in OLD_KEYS.get(kind, {}).items():
        if name in made:
            made.setdefault(old, made[name])
    if isinstance(types := made.get("layer_types"), list):
        made["layer_types"] = [OLD_TYPES.get(kind, {}).get(str(each), each) for each in types]
    rope = values.get("rope_parameters")
    if not isinstance(rope, dict):
        return made
    if FULL in rope:
        near = rope.get(SLIDING, {})
        made["rope_local_base_freq"] = near.get("rope_theta", 10000.0)
        rope = rope[FULL]
    names = OLD_NAMES.get(kind, {})
    for name in ("rope_theta", "partial_rotary_factor"):
        if name in rope:
            made[names.get(name, name)] = rope[name]
    scaling = rope.get("rope_type", rope.get("type", "default"))
    rest = {n: v for n, v in rope.items() if n not in ("rope_theta", "partial_rotary_factor")}
    if scaling != "default":
        made["rope_scaling"] = {**rest, "rope_type": scaling}
    return made


def old_tokenizer(values: Settings) -> Settings:
    """Return ``tokenizer_config.json`` with a tokenizer class that transformers 4 has."""
    if values.get("tokenizer_class") != "TokenizersBackend":
        return values
    return {**values, "tokenizer_class": "PreTrainedTokenizerFast"}


REWRITTEN = {"config.json": old_config, "tokenizer_config.json": old_tokenizer}


def link_checkpoint(source: Path, folder: Path, *, weights: bool = True) -> None:
    """Fill a folder with links to a checkpoint's files, and with its rewritten settings.

    ``weights``: link the weights as well.
    """
    for path in source.iterdir():
        if not path.is_file() or ".safetensors" in path.name:
            continue
        if rewrite := REWRITTEN.get(path.name):
            values = reading.read_object(path, "download it again")
            (folder / path.name).write_text(json.dumps(rewrite(values)), encoding="utf-8")
        else:
            (folder / path.name).symlink_to(path.resolve())
    if weights:
        link_weights(source, folder)

"""What of a model is converted, and what the text of a certificate shows of that."""

from __future__ import annotations

from pitool.checkpoint.config import Config
from pitool.convert.gguf.model import find_model

# The keys of the number of experts.
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
# The keys that a sliding window or a chunk of attention has.
WINDOWS = ("sliding_window", "sliding_window_size", "attention_window_size", "attention_chunk_size")

# The settings of what a multimodal model has beside its text model, and what that is for.
OTHER_HALVES = {"vision_config": "pictures", "audio_config": "sound"}


def text_alone(config: Config) -> str:
    """Say what of a multimodal model is not converted; nothing for a text model."""
    if "text_config" not in config.values:
        return ""
    found = [what for key, what in OTHER_HALVES.items() if config.values.get(key)]
    return f"the text model alone is converted, which takes no {' or '.join(found)}" * bool(found)


def routed(config: Config) -> bool:
    """Tell whether tokens go to experts."""
    values = config.text_model().values
    counts = (values.get(key) for key in EXPERTS)
    return any(type(count) is int and count > 1 for count in counts)


def packed(config: Config) -> bool:
    """Tell whether experts stay in few bits in every artifact, as the checkpoint has them.

    llama.cpp rounds what it multiplies them with to eight bits, so that no artifact of it is exact.
    """
    return bool(find_model(config, convertible=False).shape.packed)


def unseen(config: Config, tokens: int) -> str:
    """Return what of a model texts of so many tokens are too short for; empty for nothing."""
    values = config.text_model().values
    shape = find_model(config, convertible=False).shape
    sizes = [values.get(key) for key in WINDOWS if values.get("use_sliding_window") is not False]
    beyond = (n for n in sizes if type(n) is int and tokens <= n < shape.context)
    found = [f"the sliding window of {n}" for n in beyond]
    if shape.short_context >= tokens:
        found.append(f"LongRoPE's factors for more than {shape.short_context}")
    return f"not seen in texts of {tokens} tokens: {' and '.join(found)} tokens" if found else ""

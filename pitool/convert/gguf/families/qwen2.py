"""Qwen2 and Qwen2.5: Llama's graph with biases on query, key and value."""

from __future__ import annotations

from typing import Any

from pitool.checkpoint.config import Config
from pitool.convert.gguf.families.base import Wanted, refuse
from pitool.convert.gguf.families.decoder import Biases, Decoder, head_lengths


class Qwen2(Decoder):
    """``model_type`` qwen2."""

    architecture = "qwen2"

    def biases(self, _config: Config) -> Biases:
        """Return the biases, which every Qwen2 has."""
        return Biases(qkv=True)

    def wanted(self, config: Config) -> list[Wanted]:
        """Return every tensor; BadInput for a sliding window, which llama.cpp does not know."""
        refuse(config, "use_sliding_window", wanted=False, what="a sliding window")
        return super().wanted(config)

    def special(self, config: Config) -> dict[str, Any]:
        """Return the head size where the settings name it."""
        if config.values.get("head_dim") is None:
            return {}
        return head_lengths(config.count("head_dim"))


FAMILY = Qwen2()

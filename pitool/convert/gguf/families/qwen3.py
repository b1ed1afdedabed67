"""Qwen3: Qwen2 without biases, with norms on queries and keys."""

from __future__ import annotations

from typing import Any, ClassVar

from pitool.checkpoint.config import Config
from pitool.convert.gguf.families.base import Sizes, Wanted, read_sizes, refuse
from pitool.convert.gguf.families.decoder import Decoder, head_lengths


class Qwen3(Decoder):
    """``model_type`` qwen3."""

    architecture = "qwen3"
    defaults: ClassVar = {"head_dim": 128}

    def qk_norms(self, sizes: Sizes) -> tuple[int, int]:
        """Return one norm a head."""
        return sizes.head_dim, sizes.head_dim

    def wanted(self, config: Config) -> list[Wanted]:
        """Return every tensor; BadInput for a sliding window, which llama.cpp does not know."""
        refuse(config, "use_sliding_window", wanted=False, what="a sliding window")
        return super().wanted(config)

    def special(self, config: Config) -> dict[str, Any]:
        """Return the head size, which is free of the hidden size."""
        return head_lengths(read_sizes(config).head_dim)


FAMILY = Qwen3()

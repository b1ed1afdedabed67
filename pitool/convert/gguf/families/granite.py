"""Granite 3 (dense): Llama's graph with multipliers on embedding, attention, residual, logits."""

from __future__ import annotations

from typing import Any

from pitool.checkpoint.config import Config
from pitool.convert.gguf.families.base import read_sizes, refuse
from pitool.convert.gguf.families.llama import Llama

MULTIPLIERS = {
    "attention.scale": "attention_multiplier",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_scale": "logits_scaling",
}


class Granite(Llama):
    """``model_type`` granite."""

    architecture = "granite"

    def special(self, config: Config) -> dict[str, Any]:
        """Return the multipliers; the head size is always the hidden size over the heads."""
        sizes = read_sizes(config)
        refuse(config, "head_dim", sizes.hidden // sizes.heads, "a head size of its own")
        return {
            "vocab_size": sizes.vocabulary,
            "rope.dimension_count": sizes.head_dim,
            **{key: config.number(name, 1.0) for key, name in MULTIPLIERS.items()},
        }


FAMILY = Granite()

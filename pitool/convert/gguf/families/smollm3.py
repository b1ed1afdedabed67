"""SmolLM3: Llama's graph, with every fourth layer unrotated."""

from __future__ import annotations

from typing import Any, ClassVar

from pitool.checkpoint.config import Config
from pitool.convert.gguf.families.base import Wanted, read_sizes, refuse
from pitool.convert.gguf.families.llama import Llama
from pitool.errors import BadInput


class SmolLM3(Llama):
    """``model_type`` smollm3."""

    architecture = "smollm3"
    defaults: ClassVar = {"tie_word_embeddings": True, "rope_theta": 2000000.0}

    def wanted(self, config: Config) -> list[Wanted]:
        """Return every tensor; BadInput where other layers are unrotated than llama.cpp's."""
        refuse(config, "use_sliding_window", wanted=False, what="a sliding window")
        settings = self.settings(config)
        layers = settings.count("num_hidden_layers")
        fourth = [int((i + 1) % 4 != 0) for i in range(layers)]
        interval = settings.count("no_rope_layer_interval", 4)
        own = settings.values.get("no_rope_layers") or [
            int((i + 1) % interval != 0) for i in range(layers)
        ]
        if own != fourth:
            raise BadInput(
                f"{config.path}: other unrotated layers than every fourth are not supported",
                "convert a checkpoint whose 'no_rope_layer_interval' is 4",
            )
        return super().wanted(config)

    def special(self, config: Config) -> dict[str, Any]:
        """Return what only its loader reads."""
        sizes = read_sizes(config)
        return {"vocab_size": sizes.vocabulary, "rope.dimension_count": sizes.head_dim}


FAMILY = SmolLM3()

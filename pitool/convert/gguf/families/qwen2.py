"""Qwen2 and Qwen2.5: Llama's graph with biases on query, key and value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pitool.checkpoint.config import Config
from pitool.convert.gguf.families.base import Wanted, common_metadata, read_sizes
from pitool.convert.gguf.families.llama import Biases, decoder_layer, embeddings_and_head
from pitool.errors import BadInput


class Qwen2:
    """``model_type`` qwen2."""

    architecture = "qwen2"

    def wanted(self, config: Config) -> list[Wanted]:
        """Return every tensor; llama.cpp rotates Qwen2 by halves, as transformers does."""
        if config.flag("use_sliding_window", default=False):
            raise BadInput(
                f"{config.path}: Qwen2 with a sliding window is not supported",
                "set use_sliding_window to false if full attention is meant",
            )
        sizes = read_sizes(config)
        wanted = embeddings_and_head(config, sizes)
        for i in range(sizes.layers):
            wanted += decoder_layer(i, sizes, None, Biases(qkv=True))
        return wanted

    def metadata(self, config: Config) -> Iterator[tuple[str, Any]]:
        """Yield the common keys."""
        yield from common_metadata(self.architecture, config)
        if config.values.get("head_dim") is not None:
            for key in ("key_length", "value_length"):
                yield f"qwen2.attention.{key}", config.count("head_dim")


FAMILY = Qwen2()

"""Phi-3, Phi-3.5-mini and Phi-4: fused matrices, LongRoPE, partial rotary embedding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pitool.catalog.model_shape import TensorShape
from pitool.checkpoint.config import Config
from pitool.convert.gguf.families.base import Sizes, Wanted, read_sizes, refuse
from pitool.convert.gguf.families.decoder import Biases, Decoder, tensor
from pitool.convert.gguf.families.rope import longrope_factors, rope_metadata, rotary_share


class Phi3(Decoder):
    """``model_type`` phi3."""

    architecture = "phi3"
    defaults: ClassVar = {"original_max_position_embeddings": 4096}

    def attention(self, here: str, there: str, sizes: Sizes, _biases: Biases) -> Iterator[Wanted]:
        """Yield the fused matrix of query, key and value, and the output's."""
        q, kv = sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim
        source = f"{here}.qkv_proj.weight"
        yield tensor(f"{there}.attn_qkv.weight", source, q + 2 * kv, sizes.hidden)
        yield tensor(f"{there}.attn_output.weight", f"{here}.o_proj.weight", sizes.hidden, q)

    def feed_forward(
        self, here: str, there: str, _config: Config, sizes: Sizes
    ) -> Iterator[Wanted]:
        """Yield gate and up in one matrix, and down."""
        wide, narrow = (2 * sizes.feed_forward, sizes.hidden), (sizes.hidden, sizes.feed_forward)
        yield tensor(f"{there}.ffn_up.weight", f"{here}.gate_up_proj.weight", *wide)
        yield tensor(f"{there}.ffn_down.weight", f"{here}.down_proj.weight", *narrow)

    def computed(self, config: Config, _sizes: Sizes) -> Iterator[Wanted]:
        """Yield the divisors of LongRoPE."""
        if found := longrope_factors(config, rotated(config)):
            for kind, values in zip(("long", "short"), found[1:], strict=True):
                shape = TensorShape(f"rope_factors_{kind}.weight", values.shape)
                yield Wanted(shape, value=values)

    def special(self, config: Config) -> dict[str, Any]:
        """Return rotated size, original context and window; 0 for a model without one."""
        refuse(config, "attention_bias", wanted=False, what="a bias")
        return {
            "rope.dimension_count": rotated(config),
            "rope.scaling.original_context_length": config.count(
                "original_max_position_embeddings"
            ),
            "attention.sliding_window": config.count("sliding_window", 0),
        }

    def scaling(self, config: Config) -> Iterator[tuple[str, Any]]:
        """Yield the attention factor of LongRoPE, or the keys of another scaling."""
        if found := longrope_factors(config, rotated(config)):
            yield "phi3.rope.scaling.attn_factor", found[0]
        else:
            yield from rope_metadata(self.architecture, config)


def rotated(config: Config) -> int:
    """Return how many numbers of a head are rotated."""
    sizes = read_sizes(config)
    return int(rotary_share(config, 1.0) * sizes.hidden) // sizes.heads


FAMILY = Phi3()

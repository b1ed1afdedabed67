"""StableLM 2 and StableLM 3B: layer norms with biases, partial rotary embedding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pitool.catalog.model_shape import TensorShape
from pitool.checkpoint.config import Config
from pitool.convert.gguf.families.base import Sizes, Wanted, read_sizes
from pitool.convert.gguf.families.decoder import PRE_NORMS, Biases, Decoder, matrix
from pitool.convert.gguf.families.rope import rotary_share


class StableLM(Decoder):
    """``model_type`` stablelm."""

    architecture = "stablelm"

    def biases(self, config: Config) -> Biases:
        """Return the biases: always of norms, of the matrices as told."""
        return Biases(qkv=config.flag("use_qkv_bias", default=False), norm=True)

    def layer(self, i: int, config: Config, sizes: Sizes) -> Iterator[Wanted]:
        """Yield the tensors of a layer; one with parallel branches has a single norm."""
        here, there, biases = f"model.layers.{i}", f"blk.{i}", self.biases(config)
        parallel = config.flag("use_parallel_residual", default=False)
        for target, source in PRE_NORMS.items():
            if target == "attn_norm" or not parallel:
                norm = f"{there}.{target}", f"{here}.{source}"
                yield from matrix(*norm, sizes.hidden, bias=True)
        yield from self.attention(f"{here}.self_attn", there, sizes, biases)
        if config.flag("qk_layernorm", default=False):
            for part, heads in (("q", sizes.heads), ("k", sizes.kv_heads)):
                source = f"{here}.self_attn.{part}_layernorm.norms"
                yield Wanted(
                    TensorShape(f"{there}.attn_{part}_norm.weight", (heads, sizes.head_dim)),
                    parts=tuple(f"{source}.{n}.weight" for n in range(heads)),
                    shape=(sizes.head_dim,),
                )
        yield from self.feed_forward(f"{here}.mlp", there, config, sizes)

    def common(self, config: Config, sizes: Sizes) -> dict[str, Any]:
        """Return the common keys, with the epsilon of layer norms instead of RMS norms."""
        keys = super().common(config, sizes)
        del keys["attention.layer_norm_rms_epsilon"]
        if keys["rope.freq_base"] == 10000.0:  # the loader's own
            del keys["rope.freq_base"]
        return keys

    def special(self, config: Config) -> dict[str, Any]:
        """Return rotated size, epsilon and whether the branches are parallel."""
        sizes = read_sizes(config)
        return {
            "attention.layer_norm_epsilon": config.number("layer_norm_eps", 1e-5),
            "rope.dimension_count": int(rotary_share(config, 0.25) * sizes.head_dim),
            "use_parallel_residual": config.flag("use_parallel_residual", default=False),
        }


FAMILY = StableLM()

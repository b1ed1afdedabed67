"""GPT-NeoX and Pythia: layer norms, parallel branches, query, key and value in one matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from pitool.checkpoint.config import Config
from pitool.convert.gguf.families.base import Sizes, Transform, Wanted, read_sizes, refuse
from pitool.convert.gguf.families.decoder import Decoder, matrix, tensor


def split_heads(heads: int) -> Transform:
    """Return the reordering of rows from (head, part) to (part, head); the parts are q, k, v."""

    def transform(rows: NDArray[Any]) -> NDArray[Any]:
        parts = rows.reshape(heads, 3, -1, *rows.shape[1:])
        return parts.swapaxes(0, 1).reshape(rows.shape)

    return transform


class GptNeox(Decoder):
    """``model_type`` gpt_neox."""

    architecture = "gptneox"
    activation = ("gelu",)

    def ends(self, config: Config, sizes: Sizes) -> Iterator[Wanted]:
        """Yield embedding, final norm and head; llama.cpp wants a head even where it is tied."""
        table = (sizes.vocabulary, sizes.hidden)
        tied = config.flag("tie_word_embeddings", default=False)
        head = "gpt_neox.embed_in.weight" if tied else "embed_out.weight"
        yield tensor("token_embd.weight", "gpt_neox.embed_in.weight", *table)
        yield from matrix("output_norm", "gpt_neox.final_layer_norm", sizes.hidden, bias=True)
        yield tensor("output.weight", head, *table)

    def layer(self, i: int, config: Config, sizes: Sizes) -> Iterator[Wanted]:
        """Yield the tensors of one layer."""
        here, there, hidden = f"gpt_neox.layers.{i}", f"blk.{i}", sizes.hidden
        refuse(config, "attention_bias", wanted=True, what="attention without biases")
        parts = {
            "attn_norm": ("input_layernorm", (hidden,)),
            "ffn_norm": ("post_attention_layernorm", (hidden,)),
            "attn_output": ("attention.dense", (hidden, hidden)),
            "ffn_up": ("mlp.dense_h_to_4h", (sizes.feed_forward, hidden)),
            "ffn_down": ("mlp.dense_4h_to_h", (hidden, sizes.feed_forward)),
        }
        for target, (source, shape) in parts.items():
            yield from matrix(f"{there}.{target}", f"{here}.{source}", *shape, bias=True)
        yield from matrix(
            f"{there}.attn_qkv",
            f"{here}.attention.query_key_value",
            3 * hidden,
            hidden,
            bias=True,
            transform=split_heads(sizes.heads),
            rows=3 * hidden,
        )

    def common(self, config: Config, sizes: Sizes) -> dict[str, Any]:
        """Return the common keys that its loader reads."""
        keys = super().common(config, sizes)
        del keys["attention.layer_norm_rms_epsilon"], keys["attention.head_count_kv"]
        if keys["rope.freq_base"] == 10000.0:  # the loader's own
            del keys["rope.freq_base"]
        return keys

    def special(self, config: Config) -> dict[str, Any]:
        """Return rotated size, epsilon and whether the branches are parallel."""
        sizes = read_sizes(config)
        share = config.number("rotary_pct", 0.25)
        return {
            "attention.layer_norm_epsilon": config.number("layer_norm_eps", 1e-5),
            "rope.dimension_count": int(share * sizes.head_dim),
            "use_parallel_residual": config.flag("use_parallel_residual", default=True),
        }


FAMILY = GptNeox()

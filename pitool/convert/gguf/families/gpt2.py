"""GPT-2: learned positions, layer norms, matrices stored the other way round."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from pitool.checkpoint.config import Config
from pitool.convert.gguf.families.base import Sizes, Wanted, read_sizes, refuse
from pitool.convert.gguf.families.decoder import Decoder, matrix, tensor

# GPT-2's names of the sizes that other families have.
NAMES = {
    "num_hidden_layers": "n_layer",
    "hidden_size": "n_embd",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
}


class Gpt2(Decoder):
    """``model_type`` gpt2."""

    architecture = "gpt2"
    activation = ("gelu_new",)
    activation_key = "activation_function"
    defaults: ClassVar = {"tie_word_embeddings": True}

    def settings(self, config: Config) -> Config:
        """Return the settings under the names of the other families."""
        config = super().settings(config)
        named = {key: config.values[name] for key, name in NAMES.items() if name in config.values}
        values = {**config.values, **named}
        values["intermediate_size"] = 4 * Config(values, config.path).count("hidden_size")
        return Config(values, config.path)

    def ends(self, config: Config, sizes: Sizes) -> Iterator[Wanted]:
        """Yield embeddings of tokens and positions, the final norm and an untied head."""
        table = (sizes.vocabulary, sizes.hidden)
        yield tensor("token_embd.weight", "transformer.wte.weight", *table)
        positions = (sizes.context, sizes.hidden)
        yield tensor("position_embd.weight", "transformer.wpe.weight", *positions)
        yield from matrix("output_norm", "transformer.ln_f", sizes.hidden, bias=True)
        if not config.flag("tie_word_embeddings", default=True):
            yield tensor("output.weight", "lm_head.weight", *table)

    def layer(self, i: int, config: Config, sizes: Sizes) -> Iterator[Wanted]:
        """Yield the tensors of one layer."""
        refuse(config, "n_inner", sizes.feed_forward, "another size of the MLP")
        here, there, hidden = f"transformer.h.{i}", f"blk.{i}", sizes.hidden
        for target, source in (("attn_norm", "ln_1"), ("ffn_norm", "ln_2")):
            yield from matrix(f"{there}.{target}", f"{here}.{source}", hidden, bias=True)
        parts = {
            "attn_qkv": ("attn.c_attn", 3 * hidden, hidden),
            "attn_output": ("attn.c_proj", hidden, hidden),
            "ffn_up": ("mlp.c_fc", 4 * hidden, hidden),
            "ffn_down": ("mlp.c_proj", hidden, 4 * hidden),
        }
        for target, (source, rows, columns) in parts.items():
            yield tensor(
                f"{there}.{target}.weight",
                f"{here}.{source}.weight",
                rows,
                columns,
                transform=np.transpose,
                rows=columns,
                shape=(columns, rows),
            )
            yield tensor(f"{there}.{target}.bias", f"{here}.{source}.bias", rows)

    def common(self, _config: Config, sizes: Sizes) -> dict[str, Any]:
        """Return the keys that its loader reads."""
        return {
            "block_count": sizes.layers,
            "context_length": sizes.context,
            "embedding_length": sizes.hidden,
            "feed_forward_length": sizes.feed_forward,
            "attention.head_count": sizes.heads,
        }

    def special(self, config: Config) -> dict[str, Any]:
        """Return the epsilon of the norms."""
        read_sizes(config)
        return {"attention.layer_norm_epsilon": config.number("layer_norm_epsilon", 1e-5)}

    def scaling(self, _config: Config) -> Iterator[tuple[str, Any]]:
        """Yield nothing: it does not rotate."""
        yield from ()


FAMILY = Gpt2()

"""LFM2: short convolutions in most layers, attention with query and key norms in the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pitool.checkpoint.config import Config
from pitool.convert.gguf.families.base import Layers, Sizes, Wanted, read_sizes, refuse
from pitool.convert.gguf.families.decoder import Decoder, tensor
from pitool.errors import BadInput


class Lfm2(Decoder):
    """``model_type`` lfm2."""

    architecture = "lfm2"
    defaults: ClassVar = {"tie_word_embeddings": True, "norm_eps": 1e-5}

    def settings(self, config: Config) -> Config:
        """Return the settings with the size of the MLP and the kinds of layers worked out."""
        config = super().settings(config)
        values = dict(config.values)
        count = config.count("num_hidden_layers")
        if values.get("layer_types") is None:
            full = values.get("full_attn_idxs") or range(count)
            values["layer_types"] = [
                "full_attention" if i in full else "conv" for i in range(count)
            ]
        if len(values["layer_types"]) != count:
            raise BadInput(
                f"{config.path}: 'layer_types' does not name {count} layers",
                "repair the checkpoint",
            )
        # Already done when the settings are their own result.
        if "_feed_forward" not in values:
            values["_feed_forward"] = feed_forward_size(config)
        values["intermediate_size"] = values["_feed_forward"]
        return Config(values, config.path)

    def attends(self, config: Config) -> list[bool]:
        """Return for each layer whether it is attention rather than convolution."""
        return [kind == "full_attention" for kind in config.values["layer_types"]]

    def layers(self, config: Config) -> Layers:
        """Return keys for layers with attention alone."""
        config = self.settings(config)
        sizes = read_sizes(config)
        row = sizes.kv_heads * sizes.head_dim
        return Layers(kv_rows=tuple(row if there else 0 for there in self.attends(config)))

    def ends(self, config: Config, sizes: Sizes) -> Iterator[Wanted]:
        """Yield embedding, the norm that comes last and an untied head."""
        table = (sizes.vocabulary, sizes.hidden)
        yield tensor("token_embd.weight", "model.embed_tokens.weight", *table)
        yield tensor("token_embd_norm.weight", "model.embedding_norm.weight", sizes.hidden)
        if not config.flag("tie_word_embeddings", default=True):
            yield tensor("output.weight", "lm_head.weight", *table)

    def layer(self, i: int, config: Config, sizes: Sizes) -> Iterator[Wanted]:
        """Yield the tensors of one layer."""
        refuse(config, "conv_bias", wanted=False, what="a convolution with a bias")
        here, there, hidden = f"model.layers.{i}", f"blk.{i}", sizes.hidden
        yield tensor(f"{there}.attn_norm.weight", f"{here}.operator_norm.weight", hidden)
        yield tensor(f"{there}.ffn_norm.weight", f"{here}.ffn_norm.weight", hidden)
        if self.attends(config)[i]:
            yield from self._attention(f"{here}.self_attn", there, sizes)
        else:
            yield from self._convolution(f"{here}.conv", there, config, hidden)
        wide, narrow = (sizes.feed_forward, hidden), (hidden, sizes.feed_forward)
        for part, source, shape in (
            ("gate", "w1", wide),
            ("up", "w3", wide),
            ("down", "w2", narrow),
        ):
            name = f"{here}.feed_forward.{source}.weight"
            yield tensor(f"{there}.ffn_{part}.weight", name, *shape)

    def _attention(self, here: str, there: str, sizes: Sizes) -> Iterator[Wanted]:
        q, kv = sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim
        for part, rows in (("q", q), ("k", kv), ("v", kv)):
            name = f"{here}.{part}_proj.weight"
            yield tensor(f"{there}.attn_{part}.weight", name, rows, sizes.hidden)
        yield tensor(f"{there}.attn_output.weight", f"{here}.out_proj.weight", sizes.hidden, q)
        for part in "qk":
            name = f"{here}.{part}_layernorm.weight"
            yield tensor(f"{there}.attn_{part}_norm.weight", name, sizes.head_dim)

    def _convolution(self, here: str, there: str, config: Config, hidden: int) -> Iterator[Wanted]:
        taps = config.count("conv_L_cache", 3)
        yield tensor(
            f"{there}.shortconv.conv.weight",
            f"{here}.conv.weight",
            hidden,
            taps,
            transform=lambda rows: rows.reshape(len(rows), -1),
            shape=(hidden, 1, taps),
        )
        for part, rows in (("in_proj", 3 * hidden), ("out_proj", hidden)):
            yield tensor(f"{there}.shortconv.{part}.weight", f"{here}.{part}.weight", rows, hidden)

    def special(self, config: Config) -> dict[str, Any]:
        """Return key-value heads by layer, epsilon, vocabulary and the convolution's length."""
        sizes = read_sizes(config)
        return {
            "attention.head_count_kv": [
                sizes.kv_heads if there else 0 for there in self.attends(config)
            ],
            "attention.layer_norm_rms_epsilon": config.number("norm_eps"),
            "vocab_size": sizes.vocabulary,
            "shortconv.l_cache": config.count("conv_L_cache", 3),
        }


def feed_forward_size(config: Config) -> int:
    """Return the size of the MLP: two thirds of the named one, scaled and rounded up, or itself."""
    size = config.count("block_ff_dim", config.values.get("intermediate_size"))
    if not config.flag("block_auto_adjust_ff_dim", default=True):
        return size
    size = int(config.number("block_ffn_dim_multiplier", 1.0) * int(2 * size / 3))
    multiple = config.count("block_multiple_of", 256)
    return -(-size // multiple) * multiple


FAMILY = Lfm2()

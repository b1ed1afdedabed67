"""The decoder that most families are: embedding, layers, norm and head, with a few variations.

A family's file subclasses ``Decoder`` and states what is its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pitool.catalog.model_shape import TensorShape
from pitool.checkpoint.config import Config
from pitool.convert.gguf.families.base import (
    Layers,
    Sizes,
    Transform,
    Wanted,
    check_activation,
    read_sizes,
    with_defaults,
)
from pitool.convert.gguf.families.rope import rope_metadata

# Norms of a layer: name in GGUF and in the checkpoint.
PRE_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
GEMMA_NORMS = {
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
POST_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


@dataclass(frozen=True, slots=True)
class Biases:
    """Which matrices of a layer have a bias."""

    qkv: bool = False
    output: bool = False
    mlp: bool = False
    norm: bool = False


def tensor(target: str, source: str, *shape: int, **details: Any) -> Wanted:
    """Return a wanted tensor."""
    return Wanted(TensorShape(target, shape), source, **details)


def matrix(
    target: str, source: str, *shape: int, bias: bool = False, **details: Any
) -> Iterator[Wanted]:
    """Yield a weight and, where it has one, its bias; ``details`` go for both."""
    yield tensor(f"{target}.weight", f"{source}.weight", *shape, **details)
    if bias:
        yield tensor(f"{target}.bias", f"{source}.bias", shape[0], **details)


class Decoder:
    """A decoder with rotary embedding, RMS norms, grouped-query attention and a gated MLP."""

    architecture = ""
    # What transformers assumes where config.json says nothing.
    defaults: ClassVar[Mapping[str, Any]] = {}
    norms: ClassVar[Mapping[str, str]] = PRE_NORMS
    # Added to the weights of norms.
    norm_shift = 0.0
    activation: tuple[str, ...] = ("silu", "swish")
    activation_key = "hidden_act"

    def settings(self, config: Config) -> Config:
        """Return the settings with the family's defaults; may be given its own result."""
        return with_defaults(config, self.defaults)

    def sizes(self, config: Config) -> Sizes:
        """Return the sizes of the model."""
        return read_sizes(self.settings(config))

    def layers(self, _config: Config) -> Layers:
        """Return what differs by layer: here nothing."""
        return Layers()

    def biases(self, config: Config) -> Biases:
        """Return which matrices have a bias."""
        attention = config.flag("attention_bias", default=False)
        return Biases(attention, attention, config.flag("mlp_bias", default=False))

    def rotation(self, _sizes: Sizes) -> Transform | None:
        """Return the reordering of query and key rows: none where llama.cpp rotates halves."""
        return None

    def qk_norms(self, _sizes: Sizes) -> tuple[int, int] | None:
        """Return the sizes of the norms of queries and keys; None for a family without."""
        return None

    def computed(self, _config: Config, _sizes: Sizes) -> Iterator[Wanted]:
        """Yield tensors that are computed from the settings."""
        yield from ()

    def wanted(self, config: Config) -> list[Wanted]:
        """Return every tensor of the GGUF, in order."""
        config = self.settings(config)
        sizes = read_sizes(config)
        return [
            *self.ends(config, sizes),
            *self.computed(config, sizes),
            *(want for i in range(sizes.layers) for want in self.layer(i, config, sizes)),
        ]

    def ends(self, config: Config, sizes: Sizes) -> Iterator[Wanted]:
        """Yield embedding, final norm and, where it is not the embedding, the head.

        A tied checkpoint may store the shared matrix under either name.
        """
        table = (sizes.vocabulary, sizes.hidden)
        tied = config.flag("tie_word_embeddings", default=False)
        fallback = "lm_head.weight" if tied else ""
        yield tensor("token_embd.weight", "model.embed_tokens.weight", *table, fallback=fallback)
        bias = self.biases(config).norm
        yield from matrix(
            "output_norm", "model.norm", sizes.hidden, bias=bias, shift=self.norm_shift
        )
        if not tied:
            yield tensor("output.weight", "lm_head.weight", *table)

    def layer(self, i: int, config: Config, sizes: Sizes) -> Iterator[Wanted]:
        """Yield the tensors of one layer."""
        here, there, biases = f"model.layers.{i}", f"blk.{i}", self.biases(config)
        for target, source in self.norms.items():
            yield from matrix(
                f"{there}.{target}",
                f"{here}.{source}",
                sizes.hidden,
                bias=biases.norm,
                shift=self.norm_shift,
            )
        yield from self.attention(f"{here}.self_attn", there, sizes, biases)
        yield from self.feed_forward(f"{here}.mlp", there, config, sizes)

    def attention(self, here: str, there: str, sizes: Sizes, biases: Biases) -> Iterator[Wanted]:
        """Yield the matrices of attention, with the norms of queries and keys."""
        q, kv = sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim
        turn: dict[str, Any] = {}
        if rotation := self.rotation(sizes):
            turn = {"transform": rotation, "rows": sizes.head_dim}
        for part, rows, details in (("q", q, turn), ("k", kv, turn), ("v", kv, {})):
            yield from matrix(
                f"{there}.attn_{part}",
                f"{here}.{part}_proj",
                rows,
                sizes.hidden,
                bias=biases.qkv,
                **details,
            )
        yield from matrix(
            f"{there}.attn_output", f"{here}.o_proj", sizes.hidden, q, bias=biases.output
        )
        for part, size in zip("qk", self.qk_norms(sizes) or (), strict=False):
            yield tensor(
                f"{there}.attn_{part}_norm.weight",
                f"{here}.{part}_norm.weight",
                size,
                shift=self.norm_shift,
            )

    def feed_forward(self, here: str, there: str, config: Config, sizes: Sizes) -> Iterator[Wanted]:
        """Yield the matrices of the gated MLP."""
        bias = self.biases(config).mlp
        wide, narrow = (sizes.feed_forward, sizes.hidden), (sizes.hidden, sizes.feed_forward)
        for part, shape in (("gate", wide), ("up", wide), ("down", narrow)):
            yield from matrix(f"{there}.ffn_{part}", f"{here}.{part}_proj", *shape, bias=bias)

    def metadata(self, config: Config) -> Iterator[tuple[str, Any]]:
        """Yield what llama.cpp's loader reads of every such decoder, then the family's own."""
        config = self.settings(config)
        check_activation(config, *self.activation, key=self.activation_key)
        keys = {**self.common(config, read_sizes(config)), **self.special(config)}
        yield from ((f"{self.architecture}.{key}", value) for key, value in keys.items())
        yield from self.scaling(config)

    def common(self, config: Config, sizes: Sizes) -> dict[str, Any]:
        """Return the keys that every such decoder has, without the architecture's name."""
        return {
            "block_count": sizes.layers,
            "context_length": sizes.context,
            "embedding_length": sizes.hidden,
            "feed_forward_length": sizes.feed_forward,
            "attention.head_count": sizes.heads,
            "attention.head_count_kv": sizes.kv_heads,
            "attention.layer_norm_rms_epsilon": config.number("rms_norm_eps", 1e-6),
            "rope.freq_base": config.rope().theta,
        }

    def special(self, _config: Config) -> dict[str, Any]:
        """Return the keys of this family alone, without the architecture's name."""
        return {}

    def scaling(self, config: Config) -> Iterator[tuple[str, Any]]:
        """Yield the keys of rope scaling."""
        yield from rope_metadata(self.architecture, config)


def head_lengths(head_dim: int) -> dict[str, Any]:
    """Return the keys of a head size that is not the hidden size over the heads."""
    return {"attention.key_length": head_dim, "attention.value_length": head_dim}

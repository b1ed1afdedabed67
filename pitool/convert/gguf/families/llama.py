"""Llama and all that share its graph: Llama 2 and 3, TinyLlama, SmolLM2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from pitool.checkpoint.config import Config
from pitool.convert.gguf.families.base import (
    Sizes,
    Transform,
    Wanted,
    common_metadata,
    llama3_frequencies,
    read_sizes,
)
from pitool.spec.model import TensorShape


def interleave(head_dim: int) -> Transform:
    """Return the reordering of rows within each head from transformers' halves to pairs.

    transformers rotates row i with row i + head_dim / 2, llama.cpp's Llama rotates neighbours.
    """

    def transform(rows: NDArray[Any]) -> NDArray[Any]:
        halves = rows.reshape(-1, 2, head_dim // 2, *rows.shape[1:])
        return halves.swapaxes(1, 2).reshape(rows.shape)

    return transform


@dataclass(frozen=True, slots=True)
class Biases:
    """Which matrices of a layer have a bias."""

    qkv: bool = False
    output: bool = False
    mlp: bool = False


def decoder_layer(
    i: int, sizes: Sizes, rotary: Transform | None, biases: Biases
) -> Iterator[Wanted]:
    """Yield the tensors of one layer with RMS norms, grouped-query attention and a gated MLP."""
    here, there = f"model.layers.{i}", f"blk.{i}"
    q, kv = sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim

    def matrix(
        target: str, source: str, shape: tuple[int, ...], *, bias: bool, turn: bool = False
    ) -> Iterator[Wanted]:
        transform, rows = (rotary, sizes.head_dim) if turn and rotary else (None, 1)
        for kind, size in (("weight", shape), *([("bias", shape[:1])] if bias else [])):
            name = f"{there}.{target}.{kind}"
            yield Wanted(TensorShape(name, size), f"{here}.{source}.{kind}", transform, rows)

    norm = (sizes.hidden,)
    yield from matrix("attn_norm", "input_layernorm", norm, bias=False)
    yield from matrix("attn_q", "self_attn.q_proj", (q, sizes.hidden), bias=biases.qkv, turn=True)
    yield from matrix("attn_k", "self_attn.k_proj", (kv, sizes.hidden), bias=biases.qkv, turn=True)
    yield from matrix("attn_v", "self_attn.v_proj", (kv, sizes.hidden), bias=biases.qkv)
    yield from matrix("attn_output", "self_attn.o_proj", (sizes.hidden, q), bias=biases.output)
    yield from matrix("ffn_norm", "post_attention_layernorm", norm, bias=False)
    wide, narrow = (sizes.feed_forward, sizes.hidden), (sizes.hidden, sizes.feed_forward)
    yield from matrix("ffn_gate", "mlp.gate_proj", wide, bias=biases.mlp)
    yield from matrix("ffn_up", "mlp.up_proj", wide, bias=biases.mlp)
    yield from matrix("ffn_down", "mlp.down_proj", narrow, bias=biases.mlp)


def embeddings_and_head(config: Config, sizes: Sizes) -> list[Wanted]:
    """Return embedding, final norm and, where it is not the embedding, the head.

    A tied checkpoint may store the shared matrix under either name.
    """
    table = (sizes.vocabulary, sizes.hidden)
    tied = config.flag("tie_word_embeddings", default=False)
    head = [] if tied else [Wanted(TensorShape("output.weight", table), "lm_head.weight")]
    return [
        Wanted(
            TensorShape("token_embd.weight", table),
            "model.embed_tokens.weight",
            fallback="lm_head.weight" if tied else "",
        ),
        Wanted(TensorShape("output_norm.weight", (sizes.hidden,)), "model.norm.weight"),
        *head,
    ]


class Llama:
    """``model_type`` llama."""

    architecture = "llama"

    def wanted(self, config: Config) -> list[Wanted]:
        """Return every tensor; query and key rows are reordered for llama.cpp's rotation."""
        sizes = read_sizes(config)
        attention = config.flag("attention_bias", default=False)
        biases = Biases(attention, attention, config.flag("mlp_bias", default=False))
        rotary = interleave(sizes.head_dim)
        wanted = embeddings_and_head(config, sizes)
        frequencies = llama3_frequencies(config)
        if frequencies is not None:
            shape = TensorShape("rope_freqs.weight", frequencies.shape)
            wanted.append(Wanted(shape, value=frequencies))
        for i in range(sizes.layers):
            wanted += decoder_layer(i, sizes, rotary, biases)
        return wanted

    def metadata(self, config: Config) -> Iterator[tuple[str, Any]]:
        """Yield the common keys and what only Llama's loader reads."""
        sizes = read_sizes(config)
        yield from common_metadata(self.architecture, config)
        yield "llama.attention.key_length", sizes.head_dim
        yield "llama.attention.value_length", sizes.head_dim
        yield "llama.vocab_size", sizes.vocabulary
        yield "llama.rope.dimension_count", sizes.head_dim


FAMILY = Llama()

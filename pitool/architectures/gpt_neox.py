"""GPT-NeoX and Pythia: layer norms, parallel branches, query, key and value in one matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from pitool.architectures.base import Architecture, Transform, Wanted
from pitool.architectures.decoder import read_decoder
from pitool.architectures.description import Biases, Description, Layout, Norm
from pitool.architectures.gguf import (
    DecoderFile,
    layer_norm_keys,
    matrix,
    tensor,
    without_default_theta,
)
from pitool.architectures.rope import read_rope
from pitool.architectures.settings import Settings

LAYOUT = Layout(
    embedding="gpt_neox.embed_in",
    layer="gpt_neox.layers.{}.",
    query="",
    key="",
    value="",
    qkv="attention.query_key_value",
    output="attention.dense",
    gate="",
    up="mlp.dense_h_to_4h",
    down="mlp.dense_4h_to_h",
    norm="gpt_neox.final_layer_norm",
    head="embed_out",
    by_head=True,
)


def describe(settings: Settings) -> Description:
    """Return what the settings mean; its own names of the rotation's go before the usual ones."""
    settings.rename(rope_theta="rotary_emb_base", partial_rotary_factor="rotary_pct")
    settings.only("attention_bias", wanted=True, what="attention without biases")
    settings.ignore("num_key_value_heads", "head_dim")
    sizes = settings.sizes()
    return read_decoder(
        settings,
        norm=Norm(settings.epsilon("layer_norm_eps", 1e-5), layer=True),
        biases=Biases(qkv=True, output=True, mlp=True),
        layout=LAYOUT,
        rope=read_rope(settings, sizes.head_dim, share=0.25),
        activation=settings.activation(default="gelu"),
        parallel=settings.flag("use_parallel_residual", default=True),
    )


def split_heads(heads: int) -> Transform:
    """Return the reordering of rows from (head, part) to (part, head); the parts are q, k, v."""

    def transform(rows: NDArray[Any]) -> NDArray[Any]:
        parts = rows.reshape(heads, 3, -1, *rows.shape[1:])
        return parts.swapaxes(0, 1).reshape(rows.shape)

    return transform


class GptNeoxFile(DecoderFile):
    """Orders the fused matrix by part; llama.cpp wants a head even where it is tied."""

    architecture = "gptneox"
    more_biases = True
    activations = ("gelu",)
    partial = True

    def ends(self, model: Description) -> Iterator[Wanted]:
        """Yield embedding, final norm and head."""
        layout, table = model.layout, (model.sizes.vocabulary, model.sizes.hidden)
        head = layout.embedding if model.tied else layout.head
        yield tensor("token_embd.weight", f"{layout.embedding}.weight", *table)
        yield from matrix("output_norm", layout.norm, model.sizes.hidden, bias=True)
        yield tensor("output.weight", f"{head}.weight", *table)

    def layer(self, i: int, model: Description) -> Iterator[Wanted]:
        """Yield the tensors of one layer."""
        here, there, layout = model.layout.layer.format(i), f"blk.{i}", model.layout
        hidden, wide = model.sizes.hidden, model.sizes.feed_forward
        parts = {
            "attn_norm": (layout.before_attention, (hidden,)),
            "ffn_norm": (layout.before_mlp, (hidden,)),
            "attn_output": (layout.output, (hidden, hidden)),
            "ffn_up": (layout.up, (wide, hidden)),
            "ffn_down": (layout.down, (hidden, wide)),
        }
        for target, (source, shape) in parts.items():
            yield from matrix(f"{there}.{target}", f"{here}{source}", *shape, bias=True)
        yield from matrix(
            f"{there}.attn_qkv",
            f"{here}{layout.qkv}",
            3 * hidden,
            hidden,
            bias=True,
            transform=split_heads(model.sizes.heads),
            rows=3 * hidden,
        )

    def common(self, model: Description) -> dict[str, Any]:
        """Return the common keys that its loader reads."""
        keys = super().common(model)
        del keys["attention.layer_norm_rms_epsilon"], keys["attention.head_count_kv"]
        return without_default_theta(keys)

    def special(self, model: Description) -> dict[str, Any]:
        """Return rotated size, epsilon and whether the branches are parallel."""
        return layer_norm_keys(model)


ARCHITECTURE = Architecture("GPT-NeoX, Pythia", describe, GptNeoxFile())

"""LFM2: short convolutions in most layers, attention with query and key norms in the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pitool.architectures.base import Architecture, Wanted
from pitool.architectures.decoder import read_decoder
from pitool.architectures.description import Description, Layout, Norm, ShortConvolution
from pitool.architectures.gguf import DecoderFile, tensor
from pitool.architectures.rope import read_rope
from pitool.architectures.settings import FULL, Settings

CONVOLUTION = "conv"
LAYOUT = Layout(
    before_attention="operator_norm",
    before_mlp="ffn_norm",
    output="self_attn.out_proj",
    query_norm="self_attn.q_layernorm",
    key_norm="self_attn.k_layernorm",
    gate="feed_forward.w1",
    up="feed_forward.w3",
    down="feed_forward.w2",
    norm="model.embedding_norm",
)
# Of the code that it was trained with; transformers looks at none of them.
LEFT_OVER = (
    "block_dim", "block_norm_eps", "block_mlp_init_scale", "block_out_init_scale",
    "block_use_swiglu", "block_use_xavier_init", "conv_dim", "conv_dim_out",
    "conv_use_xavier_init", "num_heads", "use_pos_enc", "theta", "rms_norm_eps",
)  # fmt: skip


def describe(settings: Settings) -> Description:
    """Return what the settings mean."""
    settings.values = {**settings.values, "intermediate_size": feed_forward_size(settings)}
    layers = settings.count("num_hidden_layers")
    full = settings.value("full_attn_idxs") or range(layers)
    default = [FULL if i in full else CONVOLUTION for i in range(layers)]
    return read_hybrid(settings, default, layout=LAYOUT)


def read_hybrid(settings: Settings, default: list[str], **differing: Any) -> Description:
    """Return convolutions and attention, as both LFM2s have them; ``default``: kinds of layers."""
    settings.ignore(*LEFT_OVER)
    settings.only("conv_bias", wanted=False, what="a convolution with a bias")
    settings.only("hidden_act", "silu", "a different activation")
    types = settings.layer_types(default, (FULL, CONVOLUTION))
    return read_decoder(
        settings,
        norm=Norm(settings.epsilon("norm_eps", 1e-5)),
        rope=read_rope(settings, settings.sizes().head_dim, theta=1_000_000.0),
        head_norm="head",
        recurrence=ShortConvolution(settings.count("conv_L_cache", 3)),
        recurrent=frozenset(i for i, kind in enumerate(types) if kind == CONVOLUTION),
        **differing,
    )


def feed_forward_size(settings: Settings) -> int:
    """Return the size of the MLP: two thirds of the named one, scaled and rounded up, or itself."""
    named = settings.value("intermediate_size")
    size = settings.count("block_ff_dim", named)
    adjusted = settings.flag("block_auto_adjust_ff_dim", default=True)
    factor = settings.number("block_ffn_dim_multiplier", 1.0)
    multiple = settings.count("block_multiple_of", 256)
    if not adjusted:
        return size
    size = int(factor * int(2 * size / 3))
    return -(-size // multiple) * multiple


class Lfm2File(DecoderFile):
    """The norm that comes last has the name of one of the embedding in llama.cpp."""

    architecture = "lfm2"

    def check(self, model: Description) -> None:
        """Refuse layers of one kind: llama.cpp's cache of the family is made for both."""
        super().check(model)
        if len(model.recurrent) in (0, model.sizes.layers):
            raise model.error(
                "layers of one kind alone are not supported",
                "choose a checkpoint whose 'layer_types' has 'conv' and 'full_attention'",
            )

    def ends(self, model: Description) -> Iterator[Wanted]:
        """Yield embedding, the norm that comes last and an untied head."""
        layout, table = model.layout, (model.sizes.vocabulary, model.sizes.hidden)
        yield tensor("token_embd.weight", f"{layout.embedding}.weight", *table)
        yield tensor("token_embd_norm.weight", f"{layout.norm}.weight", model.sizes.hidden)
        if not model.tied:
            yield tensor("output.weight", f"{layout.head}.weight", *table)

    def layer(self, i: int, model: Description) -> Iterator[Wanted]:
        """Yield the tensors of one layer."""
        here, there, layout = model.layout.layer.format(i), f"blk.{i}", model.layout
        yield from self.norm(f"{there}.attn_norm", f"{here}{layout.before_attention}", model)
        yield from self.norm(f"{there}.ffn_norm", f"{here}{layout.before_mlp}", model)
        if i in model.recurrent:
            yield from _convolution(f"{here}conv", there, model)
        else:
            yield from self.attention(here, there, model)
        mlp = self.experts if model.routed(i) else self.feed_forward
        yield from mlp(here, there, model)

    def special(self, model: Description) -> dict[str, Any]:
        """Return key-value heads by layer, vocabulary and the convolution's length."""
        sizes = model.sizes
        return {
            "attention.head_count_kv": [
                0 if i in model.recurrent else sizes.kv_heads for i in range(sizes.layers)
            ],
            "vocab_size": sizes.vocabulary,
            "shortconv.l_cache": _taps(model),
        }


def _taps(model: Description) -> int:
    assert isinstance(model.recurrence, ShortConvolution)
    return model.recurrence.taps


def _convolution(here: str, there: str, model: Description) -> Iterator[Wanted]:
    """Yield the taps and the matrices around them."""
    hidden, taps = model.sizes.hidden, _taps(model)
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


ARCHITECTURE = Architecture("LFM2", describe, Lfm2File())

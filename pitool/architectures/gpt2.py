"""GPT-2: learned positions, layer norms, matrices stored the other way round."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pitool.architectures.base import Architecture, Wanted
from pitool.architectures.decoder import read_decoder
from pitool.architectures.description import Biases, Description, Layout, Norm
from pitool.architectures.gguf import DecoderFile, matrix, tensor
from pitool.architectures.settings import Settings

LAYOUT = Layout(
    embedding="transformer.wte",
    positions="transformer.wpe",
    layer="transformer.h.{}.",
    before_attention="ln_1",
    before_mlp="ln_2",
    query="",
    key="",
    value="",
    qkv="attn.c_attn",
    output="attn.c_proj",
    gate="",
    up="mlp.c_fc",
    down="mlp.c_proj",
    norm="transformer.ln_f",
    transposed=True,
)


def describe(settings: Settings) -> Description:
    """Return what the settings mean; the MLP is four times as wide as the model."""
    settings.rename(
        num_hidden_layers="n_layer",
        hidden_size="n_embd",
        num_attention_heads="n_head",
        max_position_embeddings="n_positions",
    )
    settings.ignore("n_ctx", "num_key_value_heads", "head_dim")
    wide = 4 * settings.count("hidden_size")
    settings.only("n_inner", wide, "a custom MLP size")
    settings.ignore("intermediate_size")
    settings.values = {**settings.values, "intermediate_size": wide}
    settings.only("scale_attn_weights", wanted=True, what="unscaled attention")
    settings.only("scale_attn_by_inverse_layer_idx", wanted=False, what="a scale per layer")
    settings.only("add_cross_attention", wanted=False, what="cross-attention")
    return read_decoder(
        settings,
        norm=Norm(settings.epsilon("layer_norm_epsilon", 1e-5), layer=True),
        biases=Biases(qkv=True, output=True, mlp=True),
        layout=LAYOUT,
        rope=None,
        activation=settings.activation("activation_function", "gelu_new"),
    )


class Gpt2File(DecoderFile):
    """Turns the matrices, and adds the embedding of positions."""

    architecture = "gpt2"
    more_biases = True
    activations = ("gelu_pytorch_tanh",)

    def ends(self, model: Description) -> Iterator[Wanted]:
        """Yield embeddings of tokens and positions, the final norm and an untied head."""
        sizes, layout = model.sizes, model.layout
        table = (sizes.vocabulary, sizes.hidden)
        yield tensor("token_embd.weight", f"{layout.embedding}.weight", *table)
        positions = (sizes.context, sizes.hidden)
        yield tensor("position_embd.weight", f"{layout.positions}.weight", *positions)
        yield from matrix("output_norm", layout.norm, sizes.hidden, bias=True)
        if not model.tied:
            yield tensor("output.weight", f"{layout.head}.weight", *table)

    def attention(self, here: str, there: str, model: Description) -> Iterator[Wanted]:
        """Yield the matrices of attention."""
        layout, hidden = model.layout, model.sizes.hidden
        yield from _turned(f"{there}.attn_qkv", f"{here}{layout.qkv}", 3 * hidden, hidden)
        yield from _turned(f"{there}.attn_output", f"{here}{layout.output}", hidden, hidden)

    def feed_forward(self, here: str, there: str, model: Description) -> Iterator[Wanted]:
        """Yield the matrices of the MLP."""
        layout, hidden, wide = model.layout, model.sizes.hidden, model.sizes.feed_forward
        yield from _turned(f"{there}.ffn_up", f"{here}{layout.up}", wide, hidden)
        yield from _turned(f"{there}.ffn_down", f"{here}{layout.down}", hidden, wide)

    def common(self, model: Description) -> dict[str, Any]:
        """Return the keys that its loader reads."""
        keys = super().common(model)
        del keys["attention.head_count_kv"], keys["attention.layer_norm_rms_epsilon"]
        return keys

    def special(self, model: Description) -> dict[str, Any]:
        """Return the epsilon of the norms."""
        return {"attention.layer_norm_epsilon": model.norm.epsilon}


def _turned(target: str, source: str, rows: int, columns: int) -> Iterator[Wanted]:
    """Yield a matrix that is stored with its inputs first, and its bias."""
    yield tensor(
        f"{target}.weight",
        f"{source}.weight",
        rows,
        columns,
        transform=np.transpose,
        rows=columns,
        shape=(columns, rows),
    )
    yield tensor(f"{target}.bias", f"{source}.bias", rows)


ARCHITECTURE = Architecture("GPT-2", describe, Gpt2File())

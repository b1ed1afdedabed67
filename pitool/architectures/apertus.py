"""Apertus: an MLP without a gate whose activation, xIELU, has numbers of its own in each layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pitool.architectures.base import Architecture, FromWeights
from pitool.architectures.decoder import read_decoder
from pitool.architectures.description import Biases, Description, Layout
from pitool.architectures.gguf import head_lengths
from pitool.architectures.llama import LlamaFile
from pitool.architectures.rope import default_rope, read_rope
from pitool.architectures.settings import Settings

LAYOUT = replace(
    Layout(),
    before_attention="attention_layernorm",
    before_mlp="feedforward_layernorm",
    query_norm="self_attn.q_norm",
    key_norm="self_attn.k_norm",
    gate="",
)
XIELU = "xielu"
# What transformers takes where no rotation is named.
ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "original_max_position_embeddings": 8192,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}
THETA = 12_000_000.0
# What transformers takes for numbers that are not stored: buffers, which are bfloat16.
DEFAULTS = {"beta": 0.5, "eps": -9.98377799987793e-07}


def describe(settings: Settings) -> Description:
    """Return what the settings mean."""
    settings.ignore("mlp_bias", "qk_norm", "post_norm")
    default_rope(settings, ROPE)
    sizes = settings.sizes()
    attention = settings.flag("attention_bias", default=False)
    return read_decoder(
        settings,
        epsilon=1e-5,
        biases=Biases(attention, attention),
        layout=LAYOUT,
        head_norm="head",
        rope=read_rope(settings, sizes.head_dim, theta=THETA),
        activation=settings.activation(default=XIELU),
    )


class ApertusFile(LlamaFile):
    """llama.cpp takes the numbers of the activations as metadata, and wants a head."""

    architecture = "apertus"
    activations = (XIELU,)
    headless = False

    def rotation(self, _model: Description) -> None:  # type: ignore[override]
        """Return no reordering: halves are rotated."""

    def metadata(self, model: Description) -> Iterator[tuple[str, Any]]:
        """Yield Llama's keys, and for each layer the numbers of its activation."""
        yield from super().metadata(model)
        for part in ("alpha_n", "alpha_p", "beta", "eps"):
            names = (
                f"{model.layout.layer.format(i)}mlp.act_fn.{part}"
                for i in range(model.sizes.layers)
            )
            yield f"xielu.{part}", FromWeights(tuple(names), DEFAULTS.get(part))

    def special(self, model: Description) -> dict[str, Any]:
        """Return Llama's keys; the head size where the settings name it."""
        keys = super().special(model)
        if not model.own_head_dim:
            keys = {key: keys[key] for key in keys if key not in head_lengths(0)}
        return keys


ARCHITECTURE = Architecture("Apertus", describe, ApertusFile())

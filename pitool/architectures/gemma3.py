"""Gemma 3, its text model: norms on queries and keys, five layers of six with a window.

Layers with a window rotate to a base of their own, and without the scaling of the others.
"""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Any

from pitool.architectures import gemma2
from pitool.architectures.base import Architecture
from pitool.architectures.decoder import read_biases, read_decoder
from pitool.architectures.description import Description, Norm
from pitool.architectures.gguf import DecoderFile, check_alternation, check_scale, head_lengths
from pitool.architectures.rope import ORIGINAL, Rope, make_rope, read_rope, rope_table
from pitool.architectures.settings import FULL, SLIDING, Settings

PERIOD = 6
LAYOUT = replace(gemma2.LAYOUT, query_norm="self_attn.q_norm", key_norm="self_attn.k_norm")
# What transformers assumes; the settings inside a multimodal model leave most of it out.
DEFAULTS: dict[str, Any] = {
    "vocab_size": 262208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131072,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
}


def describe(settings: Settings) -> Description:
    """Return what the settings mean; norms multiply by one plus the stored weight."""
    wrapped = "text_config" in settings.values
    settings.default(**DEFAULTS)
    # transformers takes ``hidden_activation``, the pattern without the mark, and no cap on scores.
    settings.ignore("hidden_act", "_sliding_window_pattern", "attn_logit_softcapping")
    settings.only("use_bidirectional_attention", wanted=False, what="bidirectional attention")
    check_scaling(settings)
    layers, head_dim = settings.count("num_hidden_layers"), settings.count("head_dim")
    every = settings.count("sliding_window_pattern", PERIOD)
    types = settings.layer_types([SLIDING if (i + 1) % every else FULL for i in range(layers)])
    return read_decoder(
        settings,
        biases=read_biases(settings),
        norm=Norm(settings.epsilon("rms_norm_eps", 1e-6), offset=1.0),
        layout=LAYOUT,
        head_norm="head",
        windows=settings.windows(types),
        rope=read_rope(settings, head_dim, theta=1_000_000.0),
        local_rope=local_rope(settings, head_dim),
        scale=settings.number("query_pre_attn_scalar") ** -0.5,
        activation=settings.activation("hidden_activation", "gelu_pytorch_tanh"),
        embedding_scale=sqrt(settings.count("hidden_size")),
        final_softcap=settings.cap("final_logit_softcapping"),
        wrapped=wrapped,
    )


def check_scaling(settings: Settings) -> None:
    """Refuse what transformers reads otherwise where each kind of layers has its own rotation."""
    scaling = settings.value("rope_scaling")
    if isinstance(scaling, dict) and scaling and "rope_type" not in scaling:
        raise settings.error(
            "'rope_scaling' has no 'rope_type', without which transformers does not scale Gemma 3"
        )
    if settings.value(ORIGINAL) is not None:
        raise settings.error(
            f"{ORIGINAL!r} stands beside the rope scaling, where transformers 4 takes it for some"
            " kinds and transformers 5 for none"
        )


def local_rope(settings: Settings, head_dim: int) -> Rope:
    """Return the rotation of layers with a window, from either layout."""
    theta = settings.number("rope_local_base_freq", 10_000.0)
    tables = settings.value("rope_parameters")
    if isinstance(tables, dict) and SLIDING in tables:
        return make_rope(settings, rope_table(settings, SLIDING), head_dim, theta=theta)
    if theta <= 0:
        raise settings.bad("rope_local_base_freq", "a positive number")
    return Rope(theta, head_dim)


class Gemma3File(DecoderFile):
    """llama.cpp's graph has every sixth layer without a window."""

    architecture = "gemma3"
    own_heads = True
    activations = ("gelu_pytorch_tanh",)
    # llama.cpp's loader knows the size that scales its scores otherwise (27B) by its layers.
    largest = 62

    def check(self, model: Description) -> None:
        """Refuse another scale of the scores and a scaled local rotation."""
        super().check(model)
        check_scale(model, self.largest)
        if model.local_rope and model.local_rope.scaling:
            raise model.error(
                f"rope scaling {model.local_rope.kind!r} in sliding-window layers is not supported",
                "convert a checkpoint without it",
            )

    def check_windows(self, model: Description) -> None:
        """Refuse windows in other layers."""
        full = [(i + 1) % PERIOD == 0 for i in range(model.sizes.layers)]
        check_alternation(model, full, "every sixth")

    def windows(self, model: Description) -> tuple[int, ...]:
        """Return the windows: every sixth layer sees all."""
        return model.windows

    def special(self, model: Description) -> dict[str, Any]:
        """Return head size, window and the base of the rotation within a window."""
        assert model.local_rope
        keys = {
            **head_lengths(model.sizes.head_dim),
            "attention.sliding_window": max(model.windows),
            "rope.freq_base_swa": model.local_rope.theta,
        }
        if model.final_softcap:
            keys["final_logit_softcapping"] = model.final_softcap
        return keys


ARCHITECTURE = Architecture("Gemma 3 (text)", describe, Gemma3File())

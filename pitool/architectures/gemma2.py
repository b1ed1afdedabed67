"""Gemma 2: four norms a layer, soft caps on scores and logits, every other layer with a window."""

from __future__ import annotations

from math import sqrt
from typing import Any

from pitool.architectures.base import Architecture
from pitool.architectures.decoder import read_biases, read_decoder
from pitool.architectures.description import Description, Layout, Norm
from pitool.architectures.gguf import (
    DecoderFile,
    check_alternation,
    check_scale,
    head_lengths,
    without_default_theta,
)
from pitool.architectures.settings import FULL, SLIDING, Settings

LAYOUT = Layout(
    after_attention="post_attention_layernorm",
    before_mlp="pre_feedforward_layernorm",
    after_mlp="post_feedforward_layernorm",
)


def describe(settings: Settings) -> Description:
    """Return what the settings mean; norms multiply by one plus the stored weight."""
    settings.default(head_dim=256)
    settings.ignore("hidden_act")  # of an older layout; transformers takes ``hidden_activation``
    layers = settings.count("num_hidden_layers")
    types = settings.layer_types([FULL if i % 2 else SLIDING for i in range(layers)])
    return read_decoder(
        settings,
        biases=read_biases(settings),
        norm=Norm(settings.epsilon("rms_norm_eps", 1e-6), offset=1.0),
        layout=LAYOUT,
        windows=settings.windows(types),
        scale=settings.number("query_pre_attn_scalar", 256) ** -0.5,
        activation=settings.activation("hidden_activation", "gelu_pytorch_tanh"),
        embedding_scale=sqrt(settings.count("hidden_size")),
        softcap=settings.cap("attn_logit_softcapping", 50.0),
        final_softcap=settings.cap("final_logit_softcapping", 30.0),
    )


class Gemma2File(DecoderFile):
    """llama.cpp's graph has the window in even layers and always both caps."""

    architecture = "gemma2"
    own_heads = True
    activations = ("gelu_pytorch_tanh",)
    # llama.cpp's loader knows the size that scales its scores otherwise by its layers.
    largest = 46

    def check(self, model: Description) -> None:
        """Refuse another scale of the scores, a head of its own, and a model without caps."""
        super().check(model)
        if not model.tied:
            raise model.error(
                "a head that is not the embedding is not supported",
                "convert a checkpoint whose 'tie_word_embeddings' is True",
            )
        check_scale(model, self.largest)
        if not (model.softcap and model.final_softcap):
            raise model.error(
                "a Gemma 2 model without soft-capping is not supported",
                "convert a checkpoint with 'attn_logit_softcapping' and 'final_logit_softcapping'",
            )

    def check_windows(self, model: Description) -> None:
        """Refuse windows in other layers."""
        full = [i % 2 == 1 for i in range(model.sizes.layers)]
        check_alternation(model, full, "every second")

    def windows(self, model: Description) -> tuple[int, ...]:
        """Return the window of the even layers."""
        return model.windows

    def common(self, model: Description) -> dict[str, Any]:
        """Return the common keys; the loader knows the base of the rotation."""
        return without_default_theta(super().common(model))

    def special(self, model: Description) -> dict[str, Any]:
        """Return head size, soft caps and window."""
        return {
            **head_lengths(model.sizes.head_dim),
            "attn_logit_softcapping": model.softcap,
            "final_logit_softcapping": model.final_softcap,
            "attention.sliding_window": max(model.windows),
        }


ARCHITECTURE = Architecture("Gemma 2", describe, Gemma2File())

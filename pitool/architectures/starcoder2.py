"""StarCoder 2: layer norms and biases everywhere, a window that llama.cpp leaves out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pitool.architectures.base import Architecture
from pitool.architectures.decoder import read_decoder
from pitool.architectures.description import Biases, Description, Layout, Norm
from pitool.architectures.gguf import DecoderFile
from pitool.architectures.settings import Settings

LAYOUT = replace(Layout(), gate="", up="mlp.c_fc", down="mlp.c_proj")


def describe(settings: Settings) -> Description:
    """Return what the settings mean; a missing window is none."""
    settings.ignore("rms_norm_eps", "mlp_bias", "attention_bias")
    settings.default(num_key_value_heads=2)
    layers = settings.count("num_hidden_layers")
    window = 0 if settings.value("sliding_window") is None else settings.count("sliding_window")
    biased = settings.flag("use_bias", default=True)
    return read_decoder(
        settings,
        norm=Norm(settings.epsilon("norm_epsilon", 1e-5), layer=True),
        biases=Biases(biased, biased, biased),
        layout=LAYOUT,
        windows=(window,) * layers,
        activation=settings.activation(default="gelu_pytorch_tanh"),
    )


class Starcoder2File(DecoderFile):
    """llama.cpp attends to everything; nothing differs up to the window, the file's context."""

    architecture = "starcoder2"
    activations = ("gelu_pytorch_tanh",)
    more_biases = True

    def check_shape(self, model: Description) -> None:
        """Refuse a model without biases, which the loader wants."""
        super().check_shape(model)
        if not model.biases.mlp:
            raise model.error(
                "matrices without biases are not supported ('use_bias' is False)",
                "choose a checkpoint whose 'use_bias' is True",
            )

    def check_windows(self, model: Description) -> None:
        """Accept a window; see the class."""

    def common(self, model: Description) -> dict[str, Any]:
        """Return the common keys, with the epsilon of layer norms."""
        keys = super().common(model)
        keys["attention.layer_norm_epsilon"] = keys.pop("attention.layer_norm_rms_epsilon")
        return keys


ARCHITECTURE = Architecture("StarCoder 2", describe, Starcoder2File())

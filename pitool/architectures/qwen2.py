"""Qwen2 and Qwen2.5: Llama's graph with biases on query, key and value."""

from __future__ import annotations

from typing import Any

from pitool.architectures.base import Architecture
from pitool.architectures.decoder import read_decoder
from pitool.architectures.description import Biases, Description
from pitool.architectures.gguf import DecoderFile, head_lengths
from pitool.architectures.settings import Settings


def describe(settings: Settings) -> Description:
    """Return what the settings mean; the biases are there whatever ``attention_bias`` says."""
    settings.ignore("attention_bias")
    windows = settings.switched_windows(settings.count("num_hidden_layers"))
    return read_decoder(settings, biases=Biases(qkv=True), windows=windows)


class Qwen2File(DecoderFile):
    """Writes the head size where the settings name it."""

    architecture = "qwen2"

    def special(self, model: Description) -> dict[str, Any]:
        """Return the head size."""
        return head_lengths(model.sizes.head_dim) if model.own_head_dim else {}


ARCHITECTURE = Architecture("Qwen2, Qwen2.5", describe, Qwen2File())

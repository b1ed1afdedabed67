"""Qwen3: Qwen2 without biases, with norms on queries and keys."""

from __future__ import annotations

from typing import Any

from pitool.architectures.base import Architecture
from pitool.architectures.decoder import read_biases, read_decoder
from pitool.architectures.description import Description, Layout
from pitool.architectures.gguf import DecoderFile, head_lengths
from pitool.architectures.settings import Settings

LAYOUT = Layout(query_norm="self_attn.q_norm", key_norm="self_attn.k_norm")


def describe(settings: Settings) -> Description:
    """Return what the settings mean; the head size is free of the hidden size."""
    settings.default(head_dim=128)
    return read_decoder(
        settings,
        biases=read_biases(settings),
        windows=settings.switched_windows(settings.count("num_hidden_layers")),
        layout=LAYOUT,
        head_norm="head",
    )


class Qwen3File(DecoderFile):
    """Writes the head size always."""

    architecture = "qwen3"
    own_heads = True

    def special(self, model: Description) -> dict[str, Any]:
        """Return the head size."""
        return head_lengths(model.sizes.head_dim)


ARCHITECTURE = Architecture("Qwen3", describe, Qwen3File())

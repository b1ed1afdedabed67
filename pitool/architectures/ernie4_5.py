"""ERNIE 4.5 (dense): Llama with neighbours that are rotated in the checkpoint already."""

from __future__ import annotations

from typing import Any

from pitool.architectures.base import Architecture
from pitool.architectures.decoder import read_decoder
from pitool.architectures.description import Biases, Description
from pitool.architectures.gguf import DecoderFile, head_lengths
from pitool.architectures.rope import read_rope
from pitool.architectures.settings import Settings


def describe(settings: Settings) -> Description:
    """Return what the settings mean."""
    settings.default(head_dim=128, num_key_value_heads=2)
    sizes = settings.sizes()
    bias = settings.flag("use_bias", default=False)
    return read_decoder(
        settings,
        epsilon=1e-5,
        biases=Biases(bias, bias, bias),
        rope=read_rope(settings, sizes.head_dim, theta=500_000.0),
        neighbours=True,
    )


class Ernie45File(DecoderFile):
    """llama.cpp rotates neighbours."""

    architecture = "ernie4_5"
    own_heads = True

    def special(self, model: Description) -> dict[str, Any]:
        """Return the head size."""
        return head_lengths(model.sizes.head_dim)


ARCHITECTURE = Architecture("ERNIE 4.5 (dense)", describe, Ernie45File())

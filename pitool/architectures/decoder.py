"""Reads the settings that nearly every decoder has; a family's file adds what is its own."""

from __future__ import annotations

from math import sqrt
from typing import Any

from pitool.architectures.description import Biases, Description, Norm
from pitool.architectures.rope import read_rope
from pitool.architectures.settings import Settings


def read_decoder(settings: Settings, *, epsilon: float = 1e-6, **own: Any) -> Description:
    """Return a decoder with RMS norms before its blocks, whole rotation and a gated SiLU MLP.

    ``epsilon``: what transformers assumes for a missing ``rms_norm_eps``. ``own``: fields of the
    description that the family reads otherwise.
    """
    sizes = settings.sizes()
    fields: dict[str, Any] = {
        "path": settings.path,
        "model_type": settings.model_type,
        "sizes": sizes,
        "scale": 1 / sqrt(sizes.head_dim),
        "windows": (0,) * sizes.layers,
        "own_head_dim": settings.value("head_dim") is not None,
        "tied": settings.tied,
        **own,
    }
    if "norm" not in own:
        fields["norm"] = Norm(settings.epsilon("rms_norm_eps", epsilon))
    if "rope" not in own:
        fields["rope"] = read_rope(settings, sizes.head_dim)
    if "activation" not in own:
        fields["activation"] = settings.activation()
    return Description(**fields)


def read_biases(settings: Settings) -> Biases:
    """Return the biases by the two switches of Llama: attention with its output, and MLP."""
    attention = settings.flag("attention_bias", default=False)
    return Biases(attention, attention, settings.flag("mlp_bias", default=False))

"""Mixtral: Mistral with a mixture of experts in every layer."""

from __future__ import annotations

from dataclasses import replace

from pitool.architectures.base import Architecture
from pitool.architectures.decoder import read_decoder
from pitool.architectures.description import Description, Experts, Layout
from pitool.architectures.mistral import MistralFile
from pitool.architectures.rope import read_rope
from pitool.architectures.settings import Settings

LAYOUT = replace(
    Layout(),
    router="block_sparse_moe.gate",
    expert="block_sparse_moe.experts.{}.",
    expert_gate="w1",
    expert_up="w3",
    expert_down="w2",
)


def describe(settings: Settings) -> Description:
    """Return what the settings mean; a missing window is none."""
    settings.default(num_key_value_heads=8)
    sizes = settings.sizes()
    window = 0 if settings.value("sliding_window") is None else settings.count("sliding_window")
    return read_decoder(
        settings,
        epsilon=1e-5,
        layout=LAYOUT,
        rope=read_rope(settings, sizes.head_dim, theta=1_000_000.0),
        windows=(window,) * sizes.layers,
        experts=Experts(
            settings.count("num_local_experts", 8),
            settings.count("num_experts_per_tok", 2),
            sizes.feed_forward,
        ),
    )


ARCHITECTURE = Architecture("Mixtral", describe, MistralFile())

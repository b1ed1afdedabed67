"""Seed-OSS: Llama with switches of their own for the biases of attention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pitool.architectures.base import Architecture, Wanted
from pitool.architectures.decoder import read_decoder
from pitool.architectures.description import Biases, Description
from pitool.architectures.gguf import DecoderFile, head_lengths
from pitool.architectures.settings import Settings


def describe(settings: Settings) -> Description:
    """Return what the settings mean."""
    settings.default(head_dim=128, num_key_value_heads=8)
    biases = Biases(
        settings.flag("attention_bias", default=True),
        settings.flag("attention_out_bias", default=False),
        settings.flag("mlp_bias", default=False),
    )
    return read_decoder(settings, biases=biases)


class SeedOssFile(DecoderFile):
    """llama.cpp calls the norm before the MLP by the name of one after attention."""

    architecture = "seed_oss"
    own_heads = True

    def layer(self, i: int, model: Description) -> Iterator[Wanted]:
        """Yield the tensors of one layer."""
        before, after = f"blk.{i}.ffn_norm.weight", f"blk.{i}.post_attention_norm.weight"
        for want in super().layer(i, model):
            renamed = want.target.name == before
            target = replace(want.target, name=after) if renamed else want.target
            yield replace(want, target=target)

    def special(self, model: Description) -> dict[str, Any]:
        """Return the head size."""
        return head_lengths(model.sizes.head_dim)


ARCHITECTURE = Architecture("Seed-OSS", describe, SeedOssFile())

"""Granite 3 (dense): Llama's graph with multipliers on embedding, attention, residual, logits."""

from __future__ import annotations

from typing import Any

from pitool.architectures.base import Architecture
from pitool.architectures.decoder import read_biases, read_decoder
from pitool.architectures.description import Description
from pitool.architectures.llama import LlamaFile
from pitool.architectures.settings import Settings


def describe(settings: Settings) -> Description:
    """Return what the settings mean."""
    return read_decoder(settings, biases=read_biases(settings), **read_multipliers(settings))


def read_multipliers(settings: Settings) -> dict[str, float]:
    """Return the fields of the description that Granite's multipliers are."""
    divisor = settings.number("logits_scaling", 1.0)
    if divisor == 0:
        raise settings.bad("logits_scaling", "a number other than 0")
    return {
        "scale": settings.number("attention_multiplier", 1.0),
        "embedding_scale": settings.number("embedding_multiplier", 1.0),
        "residual_scale": settings.number("residual_multiplier", 1.0),
        "logits_divisor": divisor,
    }


class GraniteFile(LlamaFile):
    """Llama's tensors, with the multipliers as metadata."""

    architecture = "granite"
    own_heads = False

    def check(self, model: Description) -> None:
        """Refuse a multiplier of 0, which llama.cpp takes for none."""
        super().check(model)
        for key, value in (
            ("attention_multiplier", model.scale),
            ("embedding_multiplier", model.embedding_scale),
            ("residual_multiplier", model.residual_scale),
        ):
            if value == 0:
                raise model.error(
                    f"{key!r} 0 is not supported", f"choose a checkpoint with {key!r}"
                )

    def special(self, model: Description) -> dict[str, Any]:
        """Return the multipliers."""
        return {
            "vocab_size": model.sizes.vocabulary,
            "rope.dimension_count": model.sizes.head_dim,
            "attention.scale": model.scale,
            "embedding_scale": model.embedding_scale,
            "residual_scale": model.residual_scale,
            "logit_scale": model.logits_divisor,
        }


ARCHITECTURE = Architecture("Granite 3 (dense)", describe, GraniteFile())

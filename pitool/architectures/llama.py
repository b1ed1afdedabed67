"""Llama and all that share its graph: Llama 2 and 3, TinyLlama, SmolLM2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pitool.architectures.base import Architecture, Transform, Wanted
from pitool.architectures.decoder import read_biases, read_decoder
from pitool.architectures.description import Description
from pitool.architectures.gguf import DecoderFile, head_lengths, interleave, llama3_divisors
from pitool.architectures.rope import Llama3
from pitool.architectures.settings import Settings
from pitool.catalog.model_shape import TensorShape


def describe(settings: Settings) -> Description:
    """Return what the settings mean."""
    return read_decoder(settings, biases=read_biases(settings))


class LlamaFile(DecoderFile):
    """llama.cpp's graph rotates neighbours, and knows Llama 3's frequencies as divisors."""

    architecture = "llama"
    own_heads = True
    more_biases = True
    scalings: ClassVar[Mapping[str, type]] = {**DecoderFile.scalings, "llama3": Llama3}

    def rotation(self, model: Description) -> Transform:
        """Return the reordering for llama.cpp's rotation of neighbours."""
        return interleave(model.sizes.head_dim)

    def computed(self, model: Description) -> Iterator[Wanted]:
        """Yield the frequency divisors of Llama 3."""
        if model.rope and isinstance(model.rope.scaling, Llama3):
            divisors = llama3_divisors(model.rope, model.rope.scaling)
            yield Wanted(TensorShape("rope_freqs.weight", divisors.shape), value=divisors)

    def special(self, model: Description) -> dict[str, Any]:
        """Return what only Llama's loader reads."""
        sizes = model.sizes
        return {
            **head_lengths(sizes.head_dim),
            "vocab_size": sizes.vocabulary,
            "rope.dimension_count": sizes.head_dim,
        }


ARCHITECTURE = Architecture("Llama 2 and 3, TinyLlama, SmolLM2", describe, LlamaFile())

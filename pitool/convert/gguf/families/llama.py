"""Llama and all that share its graph: Llama 2 and 3, TinyLlama, SmolLM2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from pitool.catalog.model_shape import TensorShape
from pitool.checkpoint.config import Config
from pitool.convert.gguf.families.base import Sizes, Transform, Wanted, read_sizes
from pitool.convert.gguf.families.decoder import Decoder, head_lengths
from pitool.convert.gguf.families.rope import llama3_frequencies


def interleave(head_dim: int) -> Transform:
    """Return the reordering of rows within each head from transformers' halves to pairs.

    transformers rotates row i with row i + head_dim / 2, llama.cpp's Llama rotates neighbours.
    """

    def transform(rows: NDArray[Any]) -> NDArray[Any]:
        halves = rows.reshape(-1, 2, head_dim // 2, *rows.shape[1:])
        return halves.swapaxes(1, 2).reshape(rows.shape)

    return transform


class Llama(Decoder):
    """``model_type`` llama."""

    architecture = "llama"

    def rotation(self, sizes: Sizes) -> Transform:
        """Return the reordering for llama.cpp's rotation of neighbours."""
        return interleave(sizes.head_dim)

    def computed(self, config: Config, sizes: Sizes) -> Iterator[Wanted]:
        """Yield the frequency divisors of Llama 3."""
        frequencies = llama3_frequencies(config, sizes.head_dim)
        if frequencies is not None:
            shape = TensorShape("rope_freqs.weight", frequencies.shape)
            yield Wanted(shape, value=frequencies)

    def special(self, config: Config) -> dict[str, Any]:
        """Return what only Llama's loader reads."""
        sizes = read_sizes(config)
        return {
            **head_lengths(sizes.head_dim),
            "vocab_size": sizes.vocabulary,
            "rope.dimension_count": sizes.head_dim,
        }


FAMILY = Llama()

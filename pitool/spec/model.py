"""The shape of a model: what sizes, memory and speed are computed from."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod


@dataclass(frozen=True, slots=True)
class TensorShape:
    """A tensor by its GGUF name; ``shape`` ends with the row length."""

    name: str
    shape: tuple[int, ...]

    @property
    def weights(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A decoder-only transformer.

    ``context``: tokens it was trained for; ``tensors``: all that a GGUF of it holds, in order.
    """

    architecture: str
    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    tensors: tuple[TensorShape, ...]

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(tensor.weights for tensor in self.tensors)

    @property
    def tied(self) -> bool:
        """Whether the embedding is also the head."""
        return all(tensor.name != "output.weight" for tensor in self.tensors)

    def streamed(self, name: str) -> bool:
        """Whether a decode reads all of this tensor: an untied embedding gives one row only."""
        return name != "token_embd.weight" or self.tied

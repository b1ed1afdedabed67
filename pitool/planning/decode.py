"""How long a token of an answer takes under llama.cpp: the bytes that are read, and the products.

Both are sums over the tensors, and a decode takes the longer of them: so a speed that is to be
reached is two budgets, of seconds of reading and of computing. Times in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pitool.catalog.boards import Board
from pitool.catalog.model_shape import ModelShape
from pitool.planning.prefill import product_seconds
from pitool.planning.type_mixture import TypedTensor


@dataclass(frozen=True, slots=True)
class DecodeSeconds:
    """Seconds a token: of ``reading`` from memory and of ``products``, which overlap."""

    reading: float
    products: float

    @property
    def total(self) -> float:
        """What the token takes."""
        return max(self.reading, self.products)

    def __add__(self, other: DecodeSeconds) -> DecodeSeconds:
        return DecodeSeconds(self.reading + other.reading, self.products + other.products)


def tensor_seconds(
    board: Board,
    model: ModelShape,
    stored: TypedTensor,
    interleaved: frozenset[str],
    bandwidth: float,
) -> DecodeSeconds:
    """Return what a tensor adds to the time of a token; ``bandwidth`` in bytes a second.

    ``interleaved``: types that ggml interleaves at load.
    """
    share = model.read_share(stored.tensor.name)
    return DecodeSeconds(
        stored.bytes * share / bandwidth, product_seconds(board, stored, interleaved) * share
    )


def state_seconds(model: ModelShape, bandwidth: float) -> DecodeSeconds:
    """Return what a recurrent state adds, which every token reads and writes."""
    return DecodeSeconds(2 * model.state_bytes / bandwidth, 0.0)


def decode_seconds(
    board: Board,
    model: ModelShape,
    tensors: Iterable[tuple[TypedTensor, int]],
    interleaved: frozenset[str],
    bandwidth: float,
) -> DecodeSeconds:
    """Return the time of a token at an empty context, of tensors with how many there are alike."""
    total = state_seconds(model, bandwidth)
    for stored, count in tensors:
        one = tensor_seconds(board, model, stored, interleaved, bandwidth)
        total += DecodeSeconds(one.reading * count, one.products * count)
    return total

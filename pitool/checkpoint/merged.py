"""A tensor with low-rank products added as it is read, slab by slab, in float32.

LoRA (Hu et al. 2021): which products, with which scale, is ``lora``'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.checkpoint.tensors import Tensor, to_float32


@dataclass(frozen=True, slots=True)
class LowRankProduct:
    """A product of ``a`` (rank, in) and ``b`` (out, rank); ``transposed``: for (in, out)."""

    a: Tensor
    b: Tensor
    scale: float
    transposed: bool

    def factors(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the two matrices whose product is added, in the order of the stored tensor."""
        a, b = self.a.float32(), self.b.float32()
        left, right = (a.T, b.T) if self.transposed else (b, a)
        return left * np.float32(self.scale), right


@dataclass(frozen=True, slots=True)
class MergedTensor(Tensor):
    """A tensor that reads as float32 with all its low-rank products added."""

    base: Tensor
    changes: tuple[LowRankProduct, ...]

    @property
    def bytes(self) -> int:
        """Bytes in float32."""
        return prod(self.shape) * 4

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """The stored tensors that it is made of: the base, and the factors of each product."""
        factors = (factor for change in self.changes for factor in (change.a, change.b))
        return (self.base, *factors)

    def slabs(self, largest: int, multiple: int = 1) -> Iterator[NDArray[Any]]:
        """Yield runs of merged rows, as ``Tensor.slabs`` does."""
        factors = [change.factors() for change in self.changes]
        first = 0
        for slab in self.base.slabs(largest, multiple):
            rows = to_float32(slab, self.base.kind).copy()
            for left, right in factors:
                rows += left[first : first + len(rows)] @ right
            first += len(rows)
            yield rows

    def float32(self) -> NDArray[np.float32]:
        """Return the whole merged tensor."""
        (whole,) = self.slabs(self.bytes or 1)
        return np.asarray(whole, np.float32).reshape(self.shape)

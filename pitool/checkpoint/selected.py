"""A tensor of which only some rows are read: those of the tokens that a cut vocabulary keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.checkpoint.tensors import Tensor, to_float32


@dataclass(frozen=True, slots=True)
class SelectedRows(Tensor):
    """A tensor that reads as some rows of ``base``; ``rows``: their numbers, ascending."""

    base: Tensor
    rows: NDArray[np.int64] = field(compare=False)

    @property
    def bytes(self) -> int:
        """Bytes of the selected rows."""
        return self.base.bytes // self.base.shape[0] * len(self.rows)

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """The stored tensors that it is made of."""
        return self.base.parts

    def slabs(self, largest: int, multiple: int = 1) -> Iterator[NDArray[Any]]:
        """Yield runs of selected rows, as many as lie in a slab of the base.

        A vocabulary's rows are never rearranged, so ``multiple`` is that of reading the base.
        """
        first = 0
        for slab in self.base.slabs(largest, multiple):
            begin, end = np.searchsorted(self.rows, (first, first + len(slab)))
            if begin < end:
                yield slab[self.rows[begin:end] - first]
            first += len(slab)

    def sample(self, count: int) -> NDArray[np.float32]:
        """Return about so many of the selected rows, evenly spaced, in float32."""
        step = max(len(self.rows) // count, 1)
        few = SelectedRows(
            self.name, self.kind, (-(-len(self.rows) // step), *self.shape[1:]),
            self.path, self.start, self.end, self.base, self.rows[::step],
        )  # fmt: skip
        return few.float32()

    def float32(self) -> NDArray[np.float32]:
        """Return all selected rows in float32."""
        slabs = [to_float32(slab, self.kind) for slab in self.slabs(SLAB_BYTES)]
        return np.concatenate(slabs).reshape(self.shape)


SLAB_BYTES = 16 << 20


def select(tensor: Tensor, rows: NDArray[np.int64]) -> SelectedRows:
    """Return a tensor's rows of these numbers; those past its end are left out."""
    rows = rows[rows < tensor.shape[0]]
    return SelectedRows(
        tensor.name, tensor.kind, (len(rows), *tensor.shape[1:]),
        tensor.path, tensor.start, tensor.end, tensor, rows,
    )  # fmt: skip

"""Experts whose matrices are stored in MXFP4 (OCP Microscaling, v1.0): 4 bits and shared scales.

gpt-oss's layout: ``_blocks`` has 16 bytes for 32 numbers of a row, neighbours in a byte, and
``_scales`` an exponent for them. Owns both ways of reading them: as numbers, and bit for bit in
the order of ggml's blocks. Nothing is ever rounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.checkpoint.tensors import Tensor
from pitool.errors import BadInput

MXFP4 = "MXFP4"
BLOCKS, SCALES = "_blocks", "_scales"
BLOCK, BLOCK_BYTES = 32, 16
# The numbers of the sixteen codes: a sign, two bits of exponent and one of mantissa.
_CODES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
CODES = np.concatenate([_CODES, -_CODES])
BIAS, NOT_A_NUMBER = 127, 255


@dataclass(frozen=True, slots=True)
class PackedTensor(Tensor):
    """The matrices of all experts, of the shape (experts, columns, rows) as transformers has it.

    Stored row by row: (experts, rows, columns / 32) blocks.
    """

    blocks: Tensor
    scales: Tensor

    @property
    def bytes(self) -> int:
        """Stored bytes."""
        return self.blocks.bytes + self.scales.bytes

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """None whose numbers could be looked at: all but those of a scale are finite."""
        return ()

    def slabs(self, largest: int, multiple: int = 1) -> Iterator[NDArray[Any]]:
        """Yield some experts' rows in ggml's blocks, uint8 of shape (experts, rows, bytes).

        BadInput for a scale that is not a number.
        """
        for blocks, scales in self._experts(largest, multiple):
            low, high = blocks & 15, blocks >> 4
            codes = np.stack([low, high], axis=-1).reshape(*blocks.shape[:-1], BLOCK)
            halves = codes[..., :BLOCK_BYTES] | codes[..., BLOCK_BYTES:] << 4
            made = np.concatenate([scales[..., None], halves], axis=-1)
            yield made.reshape(*made.shape[:2], -1)

    def float32(self) -> NDArray[np.float32]:
        """Return all matrices; BadInput for a scale that is not a number."""
        found = np.empty(self.shape, np.float32)
        for i, (blocks, scales) in enumerate(self._experts(1, 1)):
            codes = np.stack([blocks & 15, blocks >> 4], axis=-1)
            powers = scales.astype(np.int32)[..., None] - BIAS
            values = np.ldexp(CODES[codes].reshape(*scales.shape, BLOCK), powers)
            found[i] = values.reshape(self.shape[2], self.shape[1]).T
        return found

    def _experts(
        self, largest: int, multiple: int
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        """Yield blocks (experts, rows, blocks, 16) and scales (experts, rows, blocks)."""
        each = max(1, largest // max(self.bytes // self.shape[0], 1) // multiple * multiple)
        for first in range(0, self.shape[0], each):
            count = min(each, self.shape[0] - first)
            blocks, scales = (_read(part, first, count) for part in (self.blocks, self.scales))
            if (scales == NOT_A_NUMBER).any():
                raise BadInput(
                    f"{self.path}: {self.scales.name!r} has a scale that is not a number",
                    "use another revision of the checkpoint",
                )
            yield blocks, scales


def _read(tensor: Tensor, first: int, count: int) -> NDArray[Any]:
    """Return the bytes of some experts."""
    each = tensor.bytes // tensor.shape[0]
    data = np.fromfile(tensor.path, np.uint8, count * each, offset=tensor.start + first * each)
    if data.size != count * each:
        raise BadInput(f"{tensor.path} is truncated", "download the checkpoint again")
    return data.reshape(count, *tensor.shape[1:])


def packed(index: Mapping[str, Tensor]) -> dict[str, PackedTensor]:
    """Return the packed tensors among all of a checkpoint, by the names that floats would have."""
    found = {}
    for name, blocks in index.items():
        scales = index.get(name.removesuffix(BLOCKS) + SCALES)
        if name.endswith(BLOCKS) and scales and _together(blocks, scales):
            experts, rows, count, _ = blocks.shape
            shape, plain = (experts, count * BLOCK, rows), name.removesuffix(BLOCKS)
            found[plain] = PackedTensor(
                blocks.name.removesuffix(BLOCKS), MXFP4, shape, blocks.path, blocks.start,
                blocks.end, blocks, scales,
            )  # fmt: skip
    return found


def _together(blocks: Tensor, scales: Tensor) -> bool:
    """Tell whether two tensors are blocks and their scales."""
    bytes_ = blocks.kind == scales.kind == "U8"
    return bytes_ and len(blocks.shape) == 4 and blocks.shape == (*scales.shape, BLOCK_BYTES)

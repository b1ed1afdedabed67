"""Weights in 8-bit floats with scales beside them, as makers publish FP8 checkpoints.

A matrix is read as float32: its numbers times the scale of all, of each row, or of each block.
Owns which settings say so; every other way of packing weights is refused by its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.checkpoint.tensors import Tensor
from pitool.errors import BadInput

KEY = "quantization_config"
_KIND, _BLOCK = "F8_E4M3", 128
# Names of the scale beside ``weight``: that of transformers' FP8, and of compressed-tensors.
_SCALES = ("weight_scale_inv", "weight_scale")


def method(settings: Mapping[str, Any]) -> str:
    """Return how settings say that the weights are quantised; empty where they are floats."""
    said = settings.get(KEY)
    if not isinstance(said, Mapping):
        return ""
    words = (said.get("quant_method"), said.get("format"))
    return " ".join(word for word in words if isinstance(word, str)) or KEY


def is_readable(settings: Mapping[str, Any]) -> bool:
    """Tell whether quantised weights are such as this module reads."""
    return method(settings) in ("fp8", "compressed-tensors float-quantized")


def scaled(index: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the matrices in 8-bit floats that have their scales beside them, by name."""
    found: dict[str, Tensor] = {}
    for name, tensor in index.items():
        module, _, last = name.rpartition(".")
        names = (f"{module}.{scale}" for scale in _SCALES)
        scale = next((index[each] for each in names if each in index), None)
        if tensor.kind == _KIND and last == "weight" and scale is not None and scale.is_float:
            found[name] = ScaledTensor(
                tensor.name, "F32", tensor.shape, tensor.path, tensor.start, tensor.end,
                tensor, scale, _block(settings),
            )  # fmt: skip
    return found


def _block(settings: Mapping[str, Any]) -> tuple[int, int]:
    said = settings.get(KEY)
    size = said.get("weight_block_size") if isinstance(said, Mapping) else None
    if isinstance(size, list) and len(size) == 2 and all(type(n) is int and n > 0 for n in size):
        return size[0], size[1]
    return _BLOCK, _BLOCK


@dataclass(frozen=True, slots=True)
class ScaledTensor(Tensor):
    """A matrix of 8-bit floats that reads as float32; ``block``: rows and columns of a scale."""

    base: Tensor
    scale: Tensor
    block: tuple[int, int]

    @property
    def bytes(self) -> int:
        """Bytes in float32."""
        return prod(self.shape) * 4

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """The stored tensors that it is made of."""
        return (self.base, self.scale)

    def slabs(self, largest: int, multiple: int = 1) -> Iterator[NDArray[Any]]:
        """Yield runs of rows in float32, as ``Tensor.slabs`` does."""
        scale = self.scale.float32()
        first = 0
        for raw in self.base.raw_slabs(np.dtype(np.uint8), max(largest // 4, 1), multiple):
            rows = _NUMBERS[raw]
            yield rows * self._scales(scale, first, len(rows))
            first += len(rows)

    def float32(self) -> NDArray[np.float32]:
        """Return the whole tensor."""
        (whole,) = self.slabs(self.bytes or 1)
        return np.asarray(whole, np.float32).reshape(self.shape)

    def _scales(self, scale: NDArray[np.float32], first: int, count: int) -> NDArray[np.float32]:
        """Return the scales of some rows, of a shape that broadcasts; BadInput for another."""
        rows, columns = self.shape
        if scale.size == 1:
            return scale.reshape(1, 1)
        if scale.size == rows:
            return scale.reshape(rows, 1)[first : first + count]
        down, across = self.block
        if scale.shape != (-(-rows // down), -(-columns // across)):
            raise BadInput(
                f"{self.path}: the scales of {self.name!r} have shape {scale.shape}, which does"
                f" not go with {self.shape} in blocks of {down} by {across}",
                "use the checkpoint that is not quantised",
            )
        picked = scale[np.arange(first, first + count) // down]
        return np.repeat(picked, across, axis=1)[:, :columns]


def _numbers() -> NDArray[np.float32]:
    """Return the number of every byte: sign, 4 bits of exponent, 3 of mantissa, no infinity."""
    bytes_ = np.arange(256)
    exponent, mantissa = bytes_ >> 3 & 15, bytes_ & 7
    normal = np.ldexp(1 + mantissa / 8, exponent - 7)
    sizes = np.where(exponent > 0, normal, np.ldexp(mantissa / 8, -6))
    sizes[bytes_ & 127 == 127] = np.nan
    return np.where(bytes_ > 127, -sizes, sizes).astype(np.float32)


_NUMBERS = _numbers()

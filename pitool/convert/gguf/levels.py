"""How ggml's types hold a block: scales and offsets of its columns, and the bits of its levels.

A weight is level * scale + offset. Scales are read from bytes that ggml's own search has made;
other levels are stored beside them. The layouts are those of ggml-common.h, the numbers those of
ggml-quants.c's ``dequantize_row`` functions. Owns no search and no rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.catalog.tensor_types import TensorType
from pitool.convert.lattice import Floats

Bytes = NDArray[np.uint8]
Bits = NDArray[Any]
"""The same, in expressions that numpy's types do not follow."""
_IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


@dataclass(frozen=True, slots=True)
class Layout:
    """A type: ``values`` of its levels, ascending; what its bytes say, and how levels are stored.

    ``scales``: (blocks, bytes) to (blocks, columns); ``offsets``: the same, None for a type
    without; ``store`` puts levels (blocks, columns), uint8, into (blocks, bytes).
    """

    values: Floats
    scales: Callable[[Bytes], Floats]
    store: Callable[[Bytes, Bytes], None]
    offsets: Callable[[Bytes], Floats] | None = None


def layout_of(kind: TensorType) -> Layout | None:
    """Return the layout of a type, None for one whose levels are not chosen one by one."""
    return LAYOUTS.get(kind.name)


def _half(packed: Bytes, at: int) -> Floats:
    """Return the half-precision number of each block, (blocks, 1)."""
    return np.ascontiguousarray(packed[:, at : at + 2]).view("<f2").astype(np.float32)


def _repeated(numbers: Floats, columns: int) -> Floats:
    """Return each number of a block for as many of its columns, (blocks, columns)."""
    return np.repeat(numbers, columns // numbers.shape[1], axis=1)


def _pairs(levels: Bits) -> Bits:
    """Return 4-bit levels of blocks of 32: the first half in the low bits."""
    pairs: Bits = levels[:, :16] | levels[:, 16:] << 4
    return pairs


def _nibbles(at: int) -> Callable[[Bytes, Bytes], None]:
    def store(packed: Bytes, levels: Bytes) -> None:
        packed[:, at : at + 16] = _pairs(levels)

    return store


def _five_bits(at: int) -> Callable[[Bytes, Bytes], None]:
    """Return how the fifth bits lie at a byte, and the lower four behind them."""

    def store(packed: Bytes, levels: Bytes) -> None:
        packed[:, at : at + 4] = np.packbits(levels >> 4, axis=1, bitorder="little")
        packed[:, at + 4 : at + 20] = _pairs(levels & 15)

    return store


def _signed(packed: Bytes, levels: Bytes) -> None:
    packed[:, 2:] = levels + np.uint8(129)  # the first level is -127, in two's complement


# -- superblocks of 256 --------------------------------------------------------------------------


def _six_bit_scales(packed: Bytes) -> Floats:
    low, rest = packed[:, 4:8], packed[:, 12:16]
    counts = np.concatenate([low & 63, rest & 15 | low >> 6 << 4], 1)
    return _repeated(_half(packed, 0) * counts.astype(np.float32), 256)


def _six_bit_minima(packed: Bytes) -> Floats:
    high, rest = packed[:, 8:12], packed[:, 12:16]
    counts = np.concatenate([high & 63, rest >> 4 | high >> 6 << 4], 1)
    return _repeated(-_half(packed, 2) * counts.astype(np.float32), 256)


def _q4_k(packed: Bytes, levels: Bytes) -> None:
    parts = levels.reshape(-1, 4, 2, 32)
    packed[:, 16:144] = (parts[:, :, 0] | parts[:, :, 1] << 4).reshape(-1, 128)


def _q5_k(packed: Bytes, levels: Bytes) -> None:
    high = (levels >> 4).reshape(-1, 8, 32)
    packed[:, 16:48] = np.packbits(high, axis=1, bitorder="little").reshape(-1, 32)
    parts = (levels & 15).reshape(-1, 4, 2, 32)
    packed[:, 48:176] = (parts[:, :, 0] | parts[:, :, 1] << 4).reshape(-1, 128)


def _q6_k_scales(packed: Bytes) -> Floats:
    counts = np.ascontiguousarray(packed[:, 192:208]).view(np.int8)
    return _repeated(_half(packed, 208) * counts.astype(np.float32), 256)


def _q6_k(packed: Bytes, levels: Bytes) -> None:
    parts = levels.reshape(-1, 2, 4, 32)
    low, high = parts & 15, parts >> 4
    nibbles = np.concatenate(
        [low[:, :, 0] | low[:, :, 2] << 4, low[:, :, 1] | low[:, :, 3] << 4], 2
    )
    packed[:, :128] = nibbles.reshape(-1, 128)
    packed[:, 128:192] = _quarters(high).reshape(-1, 64)


def _quarters(parts: Bits) -> Bits:
    """Return 2-bit levels (blocks, 2, 4, 32) in bytes (blocks, 2, 32), low bits first."""
    made: Bits = parts[:, :, 0] | parts[:, :, 1] << 2 | parts[:, :, 2] << 4 | parts[:, :, 3] << 6
    return made


def _q3_k_scales(packed: Bytes) -> Floats:
    stored = packed[:, 96:108]
    low = np.concatenate([stored[:, :8] & 15, stored[:, :8] >> 4], 1)
    high = np.concatenate([stored[:, 8:] >> shift & 3 for shift in (0, 2, 4, 6)], 1)
    counts = (low | high << 4).astype(np.float32) - 32
    return _repeated(_half(packed, 108) * counts, 256)


def _q3_k(packed: Bytes, levels: Bytes) -> None:
    high = (levels >> 2).reshape(-1, 8, 32)
    packed[:, :32] = np.packbits(high, axis=1, bitorder="little").reshape(-1, 32)
    packed[:, 32:96] = _quarters((levels & 3).reshape(-1, 2, 4, 32)).reshape(-1, 64)


def _q2_k_scales(packed: Bytes) -> Floats:
    return _repeated(_half(packed, 80) * (packed[:, :16] & 15).astype(np.float32), 256)


def _q2_k_minima(packed: Bytes) -> Floats:
    return _repeated(-_half(packed, 82) * (packed[:, :16] >> 4).astype(np.float32), 256)


def _q2_k(packed: Bytes, levels: Bytes) -> None:
    packed[:, 16:80] = _quarters(levels.reshape(-1, 2, 4, 32)).reshape(-1, 64)


def _iq4_xs_scales(packed: Bytes) -> Floats:
    low = np.stack([packed[:, 4:8] & 15, packed[:, 4:8] >> 4], 2).reshape(-1, 8)
    high = (
        np.ascontiguousarray(packed[:, 2:4]).view("<u2") >> np.arange(0, 16, 2, dtype=np.uint16) & 3
    )
    counts = (low | high << 4).astype(np.float32) - 32
    return _repeated(_half(packed, 0) * counts, 256)


def _iq4_xs(packed: Bytes, levels: Bytes) -> None:
    parts = levels.reshape(-1, 8, 2, 16)
    packed[:, 8:136] = (parts[:, :, 0] | parts[:, :, 1] << 4).reshape(-1, 128)


def _even(low: int, high: int) -> Floats:
    return np.arange(low, high + 1, dtype=np.float32)


def _one(columns: int) -> Callable[[Bytes], Floats]:
    """Return the reader of one scale in front of a block."""
    return lambda packed: _repeated(_half(packed, 0), columns)


def _minimum(packed: Bytes) -> Floats:
    return _repeated(_half(packed, 2), 32)


_CODEBOOK = np.array(_IQ4, np.float32)
LAYOUTS: dict[str, Layout] = {
    "Q4_0": Layout(_even(-8, 7), _one(32), _nibbles(2)),
    "Q4_1": Layout(_even(0, 15), _one(32), _nibbles(4), _minimum),
    "Q5_0": Layout(_even(-16, 15), _one(32), _five_bits(2)),
    "Q5_1": Layout(_even(0, 31), _one(32), _five_bits(4), _minimum),
    "Q8_0": Layout(_even(-127, 127), _one(32), _signed),
    "IQ4_NL": Layout(_CODEBOOK, _one(32), _nibbles(2)),
    "IQ4_XS": Layout(_CODEBOOK, _iq4_xs_scales, _iq4_xs),
    "Q2_K": Layout(_even(0, 3), _q2_k_scales, _q2_k, _q2_k_minima),
    "Q3_K": Layout(_even(-4, 3), _q3_k_scales, _q3_k),
    "Q4_K": Layout(_even(0, 15), _six_bit_scales, _q4_k, _six_bit_minima),
    "Q5_K": Layout(_even(0, 31), _six_bit_scales, _q5_k, _six_bit_minima),
    "Q6_K": Layout(_even(-32, 31), _q6_k_scales, _q6_k),
}

"""Blocks of weights that are multiples of a scale, as quantization-aware training leaves them.

Which scale that was is not stored in a checkpoint: it is found again by the values alone. A block
counts only if every value comes out, bit for bit, or as BF16 or F16 rounds it where all values of
the checkpoint are such numbers. Owns arithmetic only; which tensor type holds such blocks is
``gguf.grids``'.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_BF16_REST, _BF16_STEP = np.uint32(0xFFFF), np.uint32(0x10000)
_MAGNITUDE = np.uint32(0x7FFFFFFF)


def find_scales(blocks: Floats, low: int, high: int, *, half: bool, stored: str) -> Floats:
    """Return the scale of each block, NaN where no scale times ``low`` to ``high`` gives it.

    ``blocks``: (blocks, weights), finite; ``half``: the scales must be numbers of F16; ``stored``:
    the float type that may have rounded the products. A scale may be negative. The levels are
    those of ``levels``.
    """
    scales = np.full(len(blocks), np.nan, np.float32)
    largest = np.abs(blocks).argmax(1)[:, None]
    extreme = np.take_along_axis(blocks, largest, 1)[:, 0]
    scales[extreme == 0] = 0
    for exact in (True, False) if stored != "F32" else (True,):
        for level in _candidates(low, high):
            (left,) = np.isnan(scales).nonzero()
            if not left.size:
                return scales
            part, guess = blocks[left], extreme[left] / np.float32(level)
            found = guess if exact else _between(part, guess, low, high, stored)
            if half:
                with np.errstate(over="ignore"):
                    found = found.astype(np.float16).astype(np.float32)
            made = levels(part, found, low, high) * found[:, None]
            same = (made if exact else rounded(made, stored)) == part
            sound = same.all(1) & np.isfinite(found)
            scales[left[sound]] = found[sound]
    return scales


def levels(blocks: Floats, scales: Floats, low: int, high: int) -> Floats:
    """Return the nearest level of each weight, 0 where the scale is 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        found = np.clip(np.rint(blocks / scales[:, None]), low, high)
    return np.where(np.isnan(found), np.float32(0), found)


def inverse_of(scales: Floats) -> Floats:
    """Return 1 / scale, 0 for a scale of 0 and for one too small to have an inverse."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse: Floats = np.float32(1) / scales
    inverse[~np.isfinite(inverse)] = 0
    return inverse


def stored_as(slabs: Iterable[Floats]) -> str:
    """Return the narrowest of BF16, F16 and F32 that has all numbers of all slabs."""
    brain = half = True
    for values in slabs:
        bits = np.ascontiguousarray(values).view(np.uint32)
        brain = brain and not (bits & _BF16_REST).any()
        half = half and bool((rounded(values, "F16") == values).all())
        if not (brain or half):
            return "F32"
    return "BF16" if brain else "F16"


def rounded(values: Floats, kind: str) -> Floats:
    """Return values as they are after a float type has rounded them: to nearest, ties to even."""
    if kind == "F32":
        return values
    if kind == "F16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).astype(np.float32)
    bits = np.ascontiguousarray(values).view(np.uint32)
    up = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return ((bits + up) & ~_BF16_REST).view(np.float32)


def _candidates(low: int, high: int) -> Iterator[int]:
    """Yield the levels that the largest weight of a block may have, the likeliest first."""
    yield from sorted((n for n in range(low, high + 1) if n), key=lambda n: (-abs(n), n))


def _between(blocks: Floats, guess: Floats, low: int, high: int, kind: str) -> Floats:
    """Return the middle of all scales whose products may have been rounded to the weights."""
    counts = np.abs(levels(blocks, guess, low, high)).astype(np.float64)
    least, most = _origins(np.abs(blocks), kind)
    with np.errstate(divide="ignore", invalid="ignore"):
        least, most = least / counts, most / counts
    bottom = np.where(counts > 0, least, 0).max(1)
    top = np.where(counts > 0, most, np.inf).min(1)
    made: Floats = np.copysign((bottom + top) / 2, guess).astype(np.float32)
    return made


def _origins(sizes: Floats, kind: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the smallest and largest number that a type rounds to each of these magnitudes."""
    if kind == "F16":
        halves = sizes.astype(np.float16)
        below = np.nextafter(halves, np.float16(0)).astype(np.float64)
        above = np.nextafter(halves, np.float16(np.inf)).astype(np.float64)
    else:
        bits = np.ascontiguousarray(sizes).view(np.uint32) & _MAGNITUDE
        under = np.where(bits >= _BF16_STEP, bits - _BF16_STEP, np.uint32(0))
        below = under.astype(np.uint32).view(np.float32).astype(np.float64)
        above = (bits + _BF16_STEP).view(np.float32).astype(np.float64)
    exact = sizes.astype(np.float64)
    return (exact + below) / 2, (exact + above) / 2

"""Cosines and sines of the rotary embedding for every position (Su et al. 2021).

Computed in float32 step by step as transformers does (``modeling_rope_utils``), so that the
tables are its own to the last bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi

import numpy as np
from numpy.typing import NDArray

from pitool.architectures.rope import Linear, Llama3, LongRope, Rope, Yarn

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rotary:
    """``frequencies`` (head_dim / 2,) in radians a position; cos and sin are times ``scale``."""

    frequencies: tuple[float, ...]
    scale: float = 1.0

    def tables(self, positions: int, width: int) -> tuple[Floats, Floats]:
        """Return cosines and sines, shape (positions, width); added columns do not rotate."""
        missing = width - len(self.frequencies)
        frequencies = np.array((*self.frequencies, *[0.0] * missing), np.float32)
        angles = np.arange(positions, dtype=np.float32)[:, None] * frequencies
        scales = np.full(width, self.scale, np.float32)
        scales[len(self.frequencies) :] = 1
        return np.cos(angles) * scales, np.sin(angles) * scales


def make_rotary(rope: Rope) -> Rotary:
    """Return the frequencies of a rotation that the graph can express."""
    exponents = np.arange(0, rope.dim, 2, dtype=np.float32) / np.float32(rope.dim)
    plain = np.float32(1) / np.power(np.float32(rope.theta), exponents)
    scale = 1.0
    match rope.scaling:
        case None:
            frequencies = plain
        case Linear(factor):
            frequencies = plain / np.float32(factor)
        case Llama3() as llama3:
            frequencies = _llama3(llama3, plain)
        case Yarn() as yarn:
            frequencies, scale = _yarn(yarn, rope.theta, plain), yarn.attention
        case LongRope() as longrope:
            frequencies, scale = plain / np.array(longrope.short), longrope.attention
        case other:
            raise TypeError(f"the graph has no {other}")
    return Rotary(tuple(frequencies.astype(np.float32).tolist()), scale)


def _llama3(scaling: Llama3, plain: Floats) -> Floats:
    """Divide long wavelengths by the factor, keep short ones, blend between (Llama 3.1)."""
    factor, low, high, original = scaling.factor, scaling.low, scaling.high, scaling.original
    lengths = np.float32(2 * pi) / plain
    smooth = (original / lengths - low) / (high - low)
    blended = (1 - smooth) * plain / factor + smooth * plain
    divided = np.where(lengths > original / low, plain / factor, plain)
    between = (lengths >= original / high) & (lengths <= original / low)
    return np.where(between, blended, divided)


def _yarn(yarn: Yarn, theta: float, plain: Floats) -> Floats:
    """Blend interpolation and extrapolation by wavelength (Peng et al. 2023)."""
    dim = 2 * len(plain)

    def dimension(turns: float) -> float:
        return dim * log(yarn.original / (turns * 2 * pi)) / (2 * log(theta))

    low, high = dimension(yarn.beta_fast or 32), dimension(yarn.beta_slow or 1)
    if yarn.truncate:
        low, high = np.floor(low), np.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    places = np.arange(dim // 2, dtype=np.float32)
    ramp = np.clip((places - low) / (high - low or 1e-3), 0, 1)
    blended: Floats = (plain / yarn.factor * ramp + plain * (1 - ramp)).astype(np.float32)
    return blended

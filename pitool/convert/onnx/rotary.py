"""Cosines and sines of the rotary embedding for every position (Su et al. 2021).

Computed in float32 step by step as transformers does (``modeling_rope_utils``), so that the
tables are its own to the last bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi, sqrt

import numpy as np
from numpy.typing import NDArray

from pitool.checkpoint.config import Config, Rope
from pitool.errors import BadInput

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


def longest_exact(config: Config, positions: int) -> int:
    """Return for how many positions one table is right: LongRoPE changes to another one."""
    rope = config.rope()
    if rope.kind != "longrope":
        return positions
    return min(positions, int(_number(config, rope, "original_max_position_embeddings")))


def make_rotary(config: Config, rope: Rope, dim: int) -> Rotary:
    """Return the rotary embedding of a checkpoint; BadInput for a kind that is not known."""
    exponents = np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)
    plain = np.float32(1) / np.power(np.float32(rope.theta), exponents)
    scale = 1.0
    match rope.kind:
        case "default":
            frequencies = plain
        case "linear":
            frequencies = plain / np.float32(_number(config, rope, "factor"))
        case "llama3":
            frequencies = _llama3(config, rope, plain)
        case "yarn":
            frequencies, scale = _yarn(config, rope, plain)
        case "longrope":
            frequencies, scale = _longrope(config, rope, plain)
        case _:
            raise BadInput(
                f"{config.path}: rope scaling {rope.kind!r} is not supported in ONNX",
                "supported are default, linear, llama3, yarn and longrope",
            )
    return Rotary(tuple(frequencies.astype(np.float32).tolist()), scale)


def _number(config: Config, rope: Rope, key: str, default: float | None = None) -> float:
    value = Config(rope.values, config.path).number(key, default)
    if value <= 0:
        raise BadInput(f"{config.path}: rope scaling has {key!r} {value}", "repair the checkpoint")
    return value


def _llama3(config: Config, rope: Rope, plain: Floats) -> Floats:
    """Divide long wavelengths by the factor, keep short ones, blend between (Llama 3.1)."""
    factor, low, high, original = (
        _number(config, rope, key)
        for key in (
            "factor",
            "low_freq_factor",
            "high_freq_factor",
            "original_max_position_embeddings",
        )
    )
    lengths = np.float32(2 * pi) / plain
    smooth = (original / lengths - low) / (high - low)
    blended = (1 - smooth) * plain / factor + smooth * plain
    divided = np.where(lengths > original / low, plain / factor, plain)
    between = (lengths >= original / high) & (lengths <= original / low)
    return np.where(between, blended, divided)


def _yarn(config: Config, rope: Rope, plain: Floats) -> tuple[Floats, float]:
    """Blend interpolation and extrapolation by wavelength (Peng et al. 2023)."""
    factor = _number(config, rope, "factor")
    trained = config.count("max_position_embeddings")
    original = _number(config, rope, "original_max_position_embeddings", trained)
    dim = 2 * len(plain)

    def dimension(turns: float) -> float:
        return dim * log(original / (turns * 2 * pi)) / (2 * log(rope.theta))

    low = dimension(_number(config, rope, "beta_fast", 32))
    high = dimension(_number(config, rope, "beta_slow", 1))
    if rope.values.get("truncate", True):
        low, high = np.floor(low), np.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    places = np.arange(dim // 2, dtype=np.float32)
    ramp = np.clip((places - low) / max(high - low, 1e-3), 0, 1)
    scale = _number(config, rope, "attention_factor", 0.1 * log(factor) + 1 if factor > 1 else 1.0)
    return (plain / factor * ramp + plain * (1 - ramp)).astype(np.float32), float(scale)


def _longrope(config: Config, rope: Rope, plain: Floats) -> tuple[Floats, float]:
    """The short factors of LongRoPE (Ding et al. 2024): right up to the original context."""
    factors = rope.values.get("short_factor")
    if not isinstance(factors, list) or len(factors) != len(plain):
        raise BadInput(
            f"{config.path}: 'short_factor' does not have {len(plain)} numbers",
            "repair the checkpoint",
        )
    original = _number(config, rope, "original_max_position_embeddings")
    stretch = config.count("max_position_embeddings") / original
    stretch = _number(config, rope, "factor", stretch)
    scale = sqrt(1 + log(stretch) / log(original)) if stretch > 1 else 1.0
    scale = _number(config, rope, "attention_factor", scale)
    return (plain / np.array(factors)).astype(np.float32), scale

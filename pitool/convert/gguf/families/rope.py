"""Rotary position embedding in GGUF: metadata of its scaling, and the frequency divisors.

Follows transformers' modeling_rope_utils for what a checkpoint means and llama.cpp's loaders for
what a GGUF can say; what cannot be said is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isclose, log, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.checkpoint.config import Config, Rope
from pitool.errors import BadInput

# ``dynamic`` leaves everything as it is up to the trained context, which is all that we offer.
UNCHANGED = frozenset({"default", "llama3", "dynamic"})


def rope_metadata(architecture: str, config: Config) -> Iterator[tuple[str, Any]]:
    """Yield the keys of rope scaling; BadInput for a kind that would be converted wrongly."""
    rope = config.rope()
    prefix = f"{architecture}.rope.scaling"
    match rope.kind:
        case kind if kind in UNCHANGED:
            return
        case "linear":
            yield f"{prefix}.type", "linear"
            yield f"{prefix}.factor", _factor(config, rope, "factor")
        case "yarn":
            factor = _factor(config, rope, "factor")
            _check_yarn(config, rope, factor)
            yield f"{prefix}.type", "yarn"
            yield f"{prefix}.factor", factor
            original = _values(config, rope).count(
                "original_max_position_embeddings", config.count("max_position_embeddings")
            )
            yield f"{prefix}.original_context_length", original
            for key in ("beta_fast", "beta_slow"):
                if rope.values.get(key) is not None:
                    yield f"{prefix}.yarn_{key}", _factor(config, rope, key)
        case _:
            raise BadInput(
                f"{config.path}: rope scaling {rope.kind!r} is not supported",
                "supported are default, dynamic, linear, llama3 and yarn",
            )


def _values(config: Config, rope: Rope) -> Config:
    return Config(rope.values, config.path)


def _factor(config: Config, rope: Rope, key: str) -> float:
    """Return a positive number of the rope scaling."""
    value = _values(config, rope).number(key)
    if value <= 0:
        raise BadInput(f"{config.path}: rope scaling has {key!r} {value}", "repair the checkpoint")
    return value


def _check_yarn(config: Config, rope: Rope, factor: float) -> None:
    """Refuse numbers other than YaRN's own: llama.cpp's loaders of these families ignore them."""
    own = {"beta_fast": 32.0, "beta_slow": 1.0, "attention_factor": 0.1 * log(factor) + 1}
    for key, value in own.items():
        if not isclose(_values(config, rope).number(key, value), value, rel_tol=1e-4):
            raise BadInput(
                f"{config.path}: YaRN with a {key!r} of its own is not supported",
                "convert a checkpoint without it",
            )


def rotary_share(config: Config, default: float) -> float:
    """Return which part of a head is rotated (partial rotary embedding), above 0 and up to 1."""
    values = config.rope().values
    if values.get("partial_rotary_factor") is None:
        values = config.values
    share = Config(values, config.path).number("partial_rotary_factor", default)
    if not 0 < share <= 1:
        raise BadInput(
            f"{config.path}: 'partial_rotary_factor' is {share}", "repair the checkpoint"
        )
    return share


def llama3_frequencies(config: Config, dim: int) -> NDArray[np.float32] | None:
    """Return the divisors of the rotary frequencies for ``llama3`` scaling, shape (dim / 2,).

    The rule is that of Llama 3.1 (transformers, modeling_rope_utils): long wavelengths are
    divided by ``factor``, short ones kept, those between are blended.
    """
    rope = config.rope()
    if rope.kind != "llama3":
        return None
    # float32 as the reference computes it, so that the stored values are its to the last bit.
    exponent = np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)
    frequency = np.float32(1.0) / np.power(np.float32(rope.theta), exponent, dtype=np.float32)
    factor, low, high, original = (
        _factor(config, rope, key)
        for key in (
            "factor",
            "low_freq_factor",
            "high_freq_factor",
            "original_max_position_embeddings",
        )
    )
    if high <= low:
        raise BadInput(
            f"{config.path}: rope scaling has 'high_freq_factor' {high} below"
            f" 'low_freq_factor' {low}",
            "repair the checkpoint",
        )
    divisors = []
    for value in frequency:
        wavelength = np.float32(2 * np.pi) / value
        if wavelength < original / high:
            divisors.append(1.0)
        elif wavelength > original / low:
            divisors.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(divisors, np.float32)


def longrope_factors(
    config: Config, dim: int
) -> tuple[float, NDArray[np.float32], NDArray[np.float32]] | None:
    """Return attention factor, long and short divisors of LongRoPE (Ding et al. 2024).

    Each of shape (dim / 2,); None for a checkpoint without it. BadInput when they do not fit.
    """
    rope = config.rope()
    if rope.kind not in ("longrope", "su"):
        return None
    original = _values(config, rope).count("original_max_position_embeddings")
    scale = config.count("max_position_embeddings") / original
    factors = [rope.values.get(key) for key in ("long_factor", "short_factor")]
    if any(not isinstance(f, list) or len(f) != dim // 2 for f in factors):
        raise BadInput(
            f"{config.path}: LongRoPE needs {dim // 2} numbers in 'long_factor' and 'short_factor'",
            "repair the checkpoint",
        )
    long, short = (np.array(f, np.float32) for f in factors)
    return sqrt(1 + log(scale) / log(original)) if scale > 1 else 1.0, long, short

"""What every family gives: the tensors a GGUF needs, where they come from, and its metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isclose, log
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pitool.checkpoint.config import Config, Rope
from pitool.errors import BadInput
from pitool.spec.model import ModelShape, TensorShape

Transform = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A tensor of the GGUF and its origin in the checkpoint.

    ``source``: name in the checkpoint, or ``value`` for one that is computed. ``transform`` is
    applied to runs of rows whose count is a multiple of ``rows``. ``fallback``: another name
    that holds the same tensor.
    """

    target: TensorShape
    source: str = ""
    transform: Transform | None = None
    rows: int = 1
    fallback: str = ""
    value: NDArray[np.float32] | None = None


class Family(Protocol):
    """One family; ``architecture`` is its name in GGUF."""

    architecture: str

    def wanted(self, config: Config) -> list[Wanted]:
        """Return every tensor of the GGUF, in order."""

    def metadata(self, config: Config) -> Iterator[tuple[str, Any]]:
        """Yield key and value; integers are stored as uint32, floats as float32."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The numbers that nearly every decoder has."""

    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int


def read_sizes(config: Config) -> Sizes:
    """Return the sizes, checked for what must divide what."""
    heads = config.count("num_attention_heads")
    hidden = config.count("hidden_size")
    kv_heads = config.count("num_key_value_heads", heads)
    if heads % kv_heads:
        raise BadInput(
            f"{config.path}: {heads} heads do not divide among {kv_heads} key-value heads",
            "repair the checkpoint",
        )
    head_dim = config.count("head_dim", max(hidden // heads, 1))
    if config.values.get("head_dim") is None and hidden % heads:
        raise BadInput(
            f"{config.path}: hidden size {hidden} does not divide among {heads} heads",
            "repair the checkpoint",
        )
    if head_dim % 2:
        raise BadInput(
            f"{config.path}: an odd head size ({head_dim}) cannot be rotated",
            "repair the checkpoint",
        )
    return Sizes(
        layers=config.count("num_hidden_layers"),
        hidden=hidden,
        feed_forward=config.count("intermediate_size"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocabulary=config.count("vocab_size"),
        context=config.count("max_position_embeddings"),
    )


def model_shape(family: Family, config: Config) -> ModelShape:
    """Return the shape of the model that the family makes of a checkpoint."""
    sizes = read_sizes(config)
    return ModelShape(
        architecture=family.architecture,
        layers=sizes.layers,
        hidden=sizes.hidden,
        feed_forward=sizes.feed_forward,
        heads=sizes.heads,
        kv_heads=sizes.kv_heads,
        head_dim=sizes.head_dim,
        vocabulary=sizes.vocabulary,
        context=sizes.context,
        tensors=tuple(wanted.target for wanted in family.wanted(config)),
    )


def common_metadata(architecture: str, config: Config) -> Iterator[tuple[str, Any]]:
    """Yield the keys that llama.cpp's loader reads for every decoder with rotary embedding."""
    sizes = read_sizes(config)
    activation = config.values.get("hidden_act") or "silu"
    if activation not in ("silu", "swish"):
        raise BadInput(
            f"{config.path}: the activation {activation!r} is not supported", "supported is silu"
        )
    keys: dict[str, Any] = {
        "block_count": sizes.layers,
        "context_length": sizes.context,
        "embedding_length": sizes.hidden,
        "feed_forward_length": sizes.feed_forward,
        "attention.head_count": sizes.heads,
        "attention.head_count_kv": sizes.kv_heads,
        "attention.layer_norm_rms_epsilon": config.number("rms_norm_eps", 1e-6),
        "rope.freq_base": config.rope().theta,
    }
    yield from ((f"{architecture}.{key}", value) for key, value in keys.items())
    yield from rope_metadata(architecture, config)


def rope_metadata(architecture: str, config: Config) -> Iterator[tuple[str, Any]]:
    """Yield the keys of rope scaling; BadInput for a kind that would be converted wrongly."""
    rope = config.rope()
    prefix = f"{architecture}.rope.scaling"
    match rope.kind:
        case "default" | "llama3":
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
                "original_max_position_embeddings", read_sizes(config).context
            )
            yield f"{prefix}.original_context_length", original
            for key in ("beta_fast", "beta_slow"):
                if rope.values.get(key) is not None:
                    yield f"{prefix}.yarn_{key}", _factor(config, rope, key)
        case _:
            raise BadInput(
                f"{config.path}: rope scaling {rope.kind!r} is not supported",
                "supported are default, linear, llama3 and yarn",
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


def llama3_frequencies(config: Config) -> NDArray[np.float32] | None:
    """Return the divisors of the rotary frequencies for ``llama3`` scaling, shape (head_dim / 2,).

    The rule is that of Llama 3.1 (transformers, modeling_rope_utils): long wavelengths are
    divided by ``factor``, short ones kept, those between are blended.
    """
    rope = config.rope()
    if rope.kind != "llama3":
        return None
    dim = read_sizes(config).head_dim
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

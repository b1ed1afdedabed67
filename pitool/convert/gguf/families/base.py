"""What every family gives: the tensors a GGUF needs, where they come from, and its metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pitool.catalog.model_shape import ModelShape, TensorShape
from pitool.checkpoint.config import Config
from pitool.errors import BadInput

Transform = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A tensor of the GGUF and its origin in the checkpoint.

    ``source``: name in the checkpoint, or ``value`` for one that is computed. ``transform`` is
    applied to runs of rows whose count is a multiple of ``rows``. ``fallback``: another name
    that holds the same tensor. ``parts``: names of equal tensors that are stacked instead.
    ``shape``: that of the source (of each part), where it is not the target's. ``shift`` is added.
    """

    target: TensorShape
    source: str = ""
    transform: Transform | None = None
    rows: int = 1
    fallback: str = ""
    value: NDArray[np.float32] | None = None
    parts: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    shift: float = 0.0

    @property
    def source_shape(self) -> tuple[int, ...]:
        """Shape that the checkpoint's tensor must have."""
        return self.shape or self.target.shape


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


@dataclass(frozen=True, slots=True)
class Layers:
    """What differs by layer; see ``ModelShape``."""

    windows: tuple[int, ...] = ()
    kv_rows: tuple[int, ...] = ()
    experts: int = 0
    experts_used: int = 0


class Family(Protocol):
    """One family; ``architecture`` is its name in GGUF."""

    architecture: str

    def sizes(self, config: Config) -> Sizes:
        """Return the sizes of the model."""

    def layers(self, config: Config) -> Layers:
        """Return what differs by layer."""

    def wanted(self, config: Config) -> list[Wanted]:
        """Return every tensor of the GGUF, in order."""

    def metadata(self, config: Config) -> Iterator[tuple[str, Any]]:
        """Yield key and value; integers are stored as uint32, floats as float32."""


def with_defaults(config: Config, defaults: Mapping[str, Any]) -> Config:
    """Return the settings completed by what transformers assumes for a missing key.

    Settings of a text model inside a multimodal one (``text_config``) come to the top.
    """
    text = config.values.get("text_config")
    values = {**config.values, **(text if isinstance(text, dict) else {})}
    return Config({**defaults, **values}, config.path)


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
    sizes, layers = family.sizes(config), family.layers(config)
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
        windows=layers.windows,
        kv_rows=layers.kv_rows,
        experts=layers.experts,
        experts_used=layers.experts_used,
    )


def check_activation(config: Config, *known: str, key: str = "hidden_act") -> None:
    """Refuse an activation that llama.cpp's graph of the family does not compute."""
    activation = config.values.get(key) or known[0]
    if activation not in known:
        raise BadInput(
            f"{config.path}: the activation {activation!r} is not supported",
            f"supported is {known[0]}",
        )


def refuse(config: Config, key: str, wanted: object, what: str) -> None:
    """Raise BadInput when a setting has another value than the only one that can be converted."""
    if config.values.get(key, wanted) not in (wanted, None):
        raise BadInput(
            f"{config.path}: {what} is not supported ({key!r} is {config.values[key]!r})",
            f"convert a checkpoint whose {key!r} is {wanted!r}",
        )

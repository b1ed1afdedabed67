"""What a family's file gives: its title, what its settings mean, and what a GGUF of it holds.

A facet that is absent is not supported, and the next way is taken: llama.cpp's own converter for
GGUF. Whether the fused ONNX graph and the float32 reference can compute a model follows from the
values of its description.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pitool.architectures.description import Description
from pitool.architectures.settings import Settings
from pitool.catalog.model_shape import TensorShape

Transform = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A tensor of the GGUF and its origin in the checkpoint.

    ``source``: name in the checkpoint, or ``value`` for one that is computed. ``transform`` is
    applied to runs of rows whose count is a multiple of ``rows``. ``fallback``: another name
    that holds the same tensor. ``parts``: names of equal tensors that are stacked instead.
    ``shape``: that of the source (of each part), where it is not the target's. ``columns``: the
    order in which they are taken. ``shift`` is added; ``function`` is computed in float32.
    ``padding``: so many rows of zeros stand behind it. ``spare``: llama.cpp wants it, and
    never reads it: zeros where the checkpoint does not have it.
    """

    target: TensorShape
    source: str = ""
    transform: Transform | None = None
    rows: int = 1
    fallback: str = ""
    value: NDArray[np.float32] | None = None
    parts: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    columns: NDArray[np.intp] | None = None
    shift: float = 0.0
    function: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None
    padding: int = 0
    spare: bool = False

    @property
    def source_shape(self) -> tuple[int, ...]:
        """Shape that the checkpoint's tensor must have."""
        return self.shape or self.target.shape


@dataclass(frozen=True, slots=True)
class FromWeights:
    """Metadata that is an array of numbers: one of each tensor named.

    ``default``: that of a tensor that is not stored; None for one that must be.
    """

    names: tuple[str, ...]
    default: float | None = None


class Gguf(Protocol):
    """What a GGUF of a family holds; ``architecture`` is the family's name in llama.cpp."""

    architecture: str

    def of(self, model: Description) -> Gguf:
        """Return the file of a model, of a family with several in llama.cpp."""

    def check(self, model: Description) -> None:
        """Raise BadInput for what llama.cpp's graph of the family does not compute."""

    def windows(self, model: Description) -> tuple[int, ...]:
        """Return the windows that llama.cpp keeps, for each layer; empty where it keeps none."""

    def wanted(self, model: Description) -> list[Wanted]:
        """Return every tensor of the GGUF, in order."""

    def metadata(self, model: Description) -> Iterator[tuple[str, Any]]:
        """Yield key and value; integers are stored as uint32, floats as float32."""

    def remark(self, model: Description) -> str:
        """Return what llama.cpp computes a little otherwise than the model, empty for nothing."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """A family: what README calls its models, what its settings mean, and its facets.

    ``transformers``: the first version that knows it.
    """

    title: str
    describe: Callable[[Settings], Description]
    gguf: Gguf | None = None
    transformers: int = 4

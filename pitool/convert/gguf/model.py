"""A checkpoint as the GGUF that it becomes: its shape, its tensors and its metadata.

Owns the choice of who knows them: the family's description, llama.cpp's own converter, or the
header of a GGUF that is converted itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

from pitool.architectures import table
from pitool.architectures.base import Gguf, Wanted
from pitool.architectures.description import DeltaNet, Description, Mamba2
from pitool.catalog.model_shape import ModelShape
from pitool.checkpoint.config import GGUF, Config
from pitool.checkpoint.mxfp4 import MXFP4
from pitool.checkpoint.weights import find_name, has_weights, read_index


class Model(Protocol):
    """See the module; ``architecture`` is its name in llama.cpp.

    ``remark``: what llama.cpp computes a little otherwise than the model, empty for nothing.
    """

    architecture: str
    remark: str

    @property
    def shape(self) -> ModelShape:
        """What sizes, memory and speed are computed from."""

    def wanted(self) -> list[Wanted]:
        """Return every tensor of the GGUF, in order."""

    def metadata(self) -> Iterator[tuple[str, Any]]:
        """Yield key and value; integers are stored as uint32, floats as float32."""


class Described:
    """A model whose family's file says what its GGUF holds."""

    def __init__(self, description: Description, file: Gguf) -> None:
        self.architecture = file.architecture
        self.remark = file.remark(description)
        self._description, self._file = description, file

    @property
    def shape(self) -> ModelShape:
        """Sizes of the description, tensors of the file."""
        model, sizes = self._description, self._description.sizes
        rows = tuple(self._row(i) for i in range(sizes.layers))
        windows = self._file.windows(model)
        return ModelShape(
            architecture=self.architecture,
            layers=sizes.layers,
            hidden=sizes.hidden,
            feed_forward=max(model.feed_forward(i) for i in range(sizes.layers)),
            heads=sizes.heads,
            kv_heads=sizes.kv_heads,
            head_dim=sizes.head_dim,
            vocabulary=sizes.vocabulary,
            context=sizes.context,
            tensors=tuple(wanted.target for wanted in self.wanted()),
            windows=windows,
            kv_rows=rows if len(set(rows)) > 1 else (),
            experts=model.experts.count if model.experts else 0,
            experts_used=model.experts.used if model.experts else 0,
            state_size=_state_size(model),
            predictors=model.predictors,
            windowless=model.windowless(windows),
            short_context=model.short_context(),
            packed=_packed(model),
            encoder=model.encoder,
        )

    def _row(self, layer: int) -> int:
        """Return the numbers in a token's key that a layer keeps."""
        model = self._description
        keeps = layer not in model.recurrent and model.lender(layer) == layer
        return model.sizes.kv_heads * model.head_dim(layer) if keeps else 0

    def wanted(self) -> list[Wanted]:
        """Return the tensors of the family's file."""
        return self._file.wanted(self._description)

    def metadata(self) -> Iterator[tuple[str, Any]]:
        """Yield the metadata of the family's file."""
        return self._file.metadata(self._description)


def _stored(model: Description, config: Config) -> Description:
    """Return a model without layers that its settings name and its weights do not have.

    A fine-tuned checkpoint mostly has none of those that predict further tokens.
    """
    if not model.predictors:
        return model
    index = config.tensors
    if index is None and has_weights(config.path.parent):
        index = read_index(config.path.parent)
    if index is None or find_name(index, f"{model.layout.predictor}.weight"):
        return model
    return replace(model, predictors=0)


def _packed(model: Description) -> str:
    """Return the type that experts are stored in, empty where it is a float type."""
    clamped = model.experts.clamped if model.experts else None
    return MXFP4 if clamped and clamped.packed else ""


def _state_size(model: Description) -> int:
    """Return what a channel of a recurrent layer keeps beside what its convolution has seen."""
    match model.recurrence:
        case DeltaNet(key_dim=size) | Mamba2(state=size):
            return size
    return 0


def find_model(config: Config, *, convertible: bool = True) -> Model:
    """Return the model of a checkpoint or of a GGUF.

    BadInput or MissingPart when none can convert it, unless only its sizes are wanted:
    ``convertible`` is False.
    """
    if config.model_type == GGUF:
        from pitool.convert.gguf.stored import Stored

        return Stored(config.path)
    architecture = table.find(config.model_type)
    if architecture is None or architecture.gguf is None:
        from pitool.convert.gguf.fallback import Foreign, find_foreign

        return find_foreign(config) if convertible else Foreign(config)
    description = _stored(table.describe(config), config)
    file = architecture.gguf.of(description)
    if convertible:
        file.check(description)
    return Described(description, file)


def model_shape(config: Config) -> ModelShape:
    """Return the shape of the model that a GGUF of a checkpoint has."""
    return find_model(config).shape

"""A forward pass of a checkpoint in float32, layer by layer, in plain numpy.

What an artifact is verified against where transformers is not installed. Driven by the
checkpoint's description alone, whatever its family; reads the checkpoint's own tensors under their
own names and computes every rotation for itself, so that a mistake in the conversion cannot repeat
itself here. What it cannot compute is refused. Memory: one layer at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from pitool.architectures import table
from pitool.architectures.description import Description, Layout
from pitool.checkpoint.config import Config
from pitool.checkpoint.source import Checkpoint
from pitool.checkpoint.tensors import Tensor, to_float32
from pitool.convert import numpy_altup
from pitool.convert.numpy_layer import XIELU, Layer, OnInput
from pitool.convert.numpy_parts import ACTIVATIONS, Array, capped, normed

HEAD_SLAB = 64 << 20


def covers(config: Config) -> bool:
    """Tell whether the forward pass is that of a checkpoint."""
    return (
        table.find(config.model_type) is not None and incomputable(table.describe(config)) is None
    )


def incomputable(model: Description) -> str | None:
    """Return what of a model the forward pass does not compute, None when it computes all."""
    found = {
        "a text model inside a multimodal one": model.wrapped,
        "an encoder": model.encoder,
        f"the activation {model.activation!r}": model.activation not in (*ACTIVATIONS, XIELU),
    }
    return next((what for what, wrong in found.items() if wrong), None)


def _unheard(_name: str, _input: Array) -> None:
    pass


class Forward:
    """The forward pass in steps: ``embed``, ``layer`` for each layer, ``logits``.

    Weights of a layer are handed to it, so that it can be run with others than the checkpoint's.
    ``noise``: every number of a matrix is changed by up to this share of itself.
    """

    def __init__(self, checkpoint: Checkpoint, noise: float = 0.0) -> None:
        self._model = model = table.describe(checkpoint.config)
        self._noise, self._random = np.float32(noise), np.random.default_rng(0)
        if reason := incomputable(model):
            raise model.error(
                f"{reason} is not supported by the reference", "compare it with a float artifact"
            )
        self._tensors = _rooted(checkpoint.tensors, model.layout)
        self._lent: dict[int, tuple[Array, Array]] = {}
        self._inputs: Array | None = None
        self.layers = model.sizes.layers

    def prefix(self, i: int) -> str:
        """Return what the names of the tensors of layer ``i`` begin with."""
        return self._model.layout.layer.format(i)

    def weights(self, i: int) -> dict[str, Array]:
        """Return the tensors of layer ``i``, without ``prefix(i)`` in their names.

        Those of experts are read when they are asked for, and not kept: all together may be larger
        than the memory.
        """
        prefix = self.prefix(i)
        tensors = {
            name.removeprefix(prefix): tensor
            for name, tensor in self._tensors.items()
            if name.startswith(prefix)
        }
        expert = self._model.layout.expert.partition("{}")[0] if self._model.experts else "\0"
        later = {name: tensor for name, tensor in tensors.items() if name.startswith(expert)}
        found = _Weights(lambda name: self._read(later[name]))
        found.update((n, self._read(t)) for n, t in tensors.items() if n not in later)
        return found

    def embed(self, ids: Sequence[int], rows: Array | None = None) -> Array:
        """Return the first layer's input, shape (tokens, hidden); of AltUp one for each stream.

        ``rows``: of these tokens in place of the embedding's, (tokens, hidden).
        """
        layout = self._model.layout
        rows = _rows(self.embedding[1], ids) if rows is None else rows
        hidden = self._noisy(rows) * np.float32(self._model.embedding_scale)
        if layout.positions:
            hidden = hidden + self._noisy(_rows(self._table(layout.positions)[1], range(len(ids))))
        self._lent.clear()
        self._inputs = self._layer_inputs(ids, hidden) if self._model.layer_inputs else None
        if self._model.altup:
            return numpy_altup.spread(hidden, self._streams("altup_projections"))
        return hidden

    def _streams(self, name: str) -> list[Array]:
        """Return the matrices of all streams but the first."""
        assert self._model.altup
        names = (f"model.{name}.{i}.weight" for i in range(self._model.altup.streams - 1))
        return [self._read(self._tensors[each]) for each in names]

    def _layer_inputs(self, ids: Sequence[int], hidden: Array) -> Array:
        """Return what each layer takes besides, shape (tokens, layers, size)."""
        model, inputs = self._model, self._model.layer_inputs
        assert inputs
        shape = (len(ids), self.layers, inputs.size)
        rows = self._noisy(_rows(self._tensors["model.embed_tokens_per_layer.weight"], ids))
        projection = self._read(self._tensors["model.per_layer_model_projection.weight"])
        projected = (hidden @ projection.T * np.float32(model.sizes.hidden**-0.5)).reshape(shape)
        weight = self._tensors["model.per_layer_projection_norm.weight"].float32()
        projected = normed(projected, weight, None, model.norm)
        summed: Array = projected + rows.reshape(shape) * np.float32(inputs.size**0.5)
        return summed * np.float32(2**-0.5)

    def layer(
        self,
        i: int,
        weights: dict[str, Array],
        hidden: Array,
        on_input: OnInput = _unheard,
        on_residual: OnInput = _unheard,
        known: Mapping[str, Array] = MappingProxyType({}),
    ) -> Array:
        """Return the output of layer ``i`` for its input, both of the shape of ``embed``'s.

        ``on_residual`` and ``known``: see ``numpy_layer.Layer``.
        """
        besides = None if self._inputs is None else self._inputs[:, i]
        layer = Layer(self._model, i, weights, on_input, on_residual, self._lent, besides, known)
        return layer.streams(hidden) if self._model.altup else layer.forward(hidden)

    @property
    def embedding(self) -> tuple[str, Tensor]:
        """The embedding and its name; the head of a tied checkpoint that holds only this."""
        return self._table(self._model.layout.embedding)

    @property
    def head(self) -> tuple[str, Tensor]:
        """The head and its name; the embedding of a tied checkpoint."""
        layout = self._model.layout
        return self._table(layout.embedding if self._model.tied else layout.head)

    def final(self, hidden: Array) -> Array:
        """Return what the head multiplies for the last layer's output, shape (tokens, hidden)."""
        model = self._model
        if model.altup:
            hidden = numpy_altup.merged(hidden, self._streams("altup_unembed_projections"))
        bias = self._tensors[f"{model.layout.norm}.bias"] if model.norm.layer else None
        return normed(
            hidden,
            self._tensors[f"{model.layout.norm}.weight"].float32(),
            bias.float32() if bias else None,
            model.norm,
        )

    def logits(self, hidden: Array) -> Array:
        """Return the logits for the last layer's output, shape (tokens, vocabulary)."""
        model, (_, head) = self._model, self.head
        final = self.final(hidden)
        slabs = (self._noisy(to_float32(slab, head.kind)) for slab in head.slabs(HEAD_SLAB))
        parts = [final @ slab.T for slab in slabs]
        logits = np.concatenate(parts, axis=1, dtype=np.float32)
        return capped(logits / np.float32(model.logits_divisor), model.final_softcap)

    def _read(self, tensor: Tensor) -> Array:
        return self._noisy(tensor.float32()) if len(tensor.shape) > 1 else tensor.float32()

    def _noisy(self, weights: Array) -> Array:
        if not self._noise:
            return weights
        share = 2 * self._random.random(weights.shape, np.float32) - 1
        noisy: Array = weights * (1 + self._noise * share)
        return noisy

    def _table(self, module: str) -> tuple[str, Tensor]:
        """Return a table of rows; a tied checkpoint may hold only either of embedding and head."""
        name = f"{module}.weight"
        if name not in self._tensors and self._model.tied:
            name = f"{self._model.layout.head}.weight"
        return name, self._tensors[name]


def _rooted(tensors: Mapping[str, Tensor], layout: Layout) -> Mapping[str, Tensor]:
    """Return the tensors by the layout's names, whose first word some checkpoints leave out."""
    root, _, short = layout.embedding.partition(".")
    if f"{short}.weight" not in tensors:
        return tensors
    return {f"{root}.{name}": tensor for name, tensor in tensors.items()}


def reference_logits(
    checkpoint: Checkpoint,
    ids: Sequence[int],
    on_layer: Callable[[int, int], None] = lambda _done, _all: None,
    *,
    noise: float = 0.0,
) -> Array:
    """Return the logits after each token, shape (tokens, vocabulary), float32; see ``Forward``."""
    forward = Forward(checkpoint, noise)
    hidden = forward.embed(ids)
    for i in range(forward.layers):
        hidden = forward.layer(i, forward.weights(i), hidden)
        on_layer(i + 1, forward.layers)
    return forward.logits(hidden)


class _Weights(dict[str, Array]):
    """Tensors by their names, those that are missing read anew each time."""

    def __init__(self, read: Callable[[str], Array]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, name: str) -> Array:
        return self._read(name)


def _rows(table: Tensor, ids: Sequence[int]) -> Array:
    """Return rows of a table in float32, read slab by slab."""
    rows: dict[int, Array] = {}
    wanted, first = set(ids), 0
    for slab in table.slabs(HEAD_SLAB):
        for i in wanted & set(range(first, first + len(slab))):
            rows[i] = to_float32(slab[i - first], table.kind)
        first += len(slab)
    return np.stack([rows[i] for i in ids])

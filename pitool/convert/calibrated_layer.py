"""A layer on the windows of a calibration text, in the float model and in the rounded one.

Owns what flows into its modules in both. Which matrices are rounded, and to what, is the caller's.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass

import numpy as np

from pitool.architectures.description import Description
from pitool.convert.lattice import Floats
from pitool.convert.numpy_forward import Forward
from pitool.convert.numpy_layer import mixer_output
from pitool.convert.propagation import Inputs, Moments, added

Weights = dict[str, Floats]


@dataclass(frozen=True, slots=True)
class Hidden:
    """A layer's input in the float model and in the rounded one, (tokens, hidden) each."""

    exact: Floats
    rounded: Floats


class _Enough(Exception):  # noqa: N818 - it is no error
    """All inputs that are wanted were heard; what a layer makes of them is not computed."""


class _Run:
    """A layer on a window with the weights of one of the two models, which may change.

    What flows into the matrix behind attention is kept once it was asked for: all that is before it
    has its weights by then.
    """

    def __init__(
        self, forward: Forward, model: Description, index: int, weights: Weights, hidden: Floats
    ) -> None:
        self._forward, self._index, self._weights = forward, index, weights
        self._hidden, self._mixer = hidden, mixer_output(model, index)
        self._known: Weights = {}

    def heard(self, until: Collection[str] = ()) -> Weights:
        """Return what flows into modules and norms; no further than until some were heard."""
        heard: Weights = {}
        left = set(until)

        def hear(name: str, x: Floats) -> None:
            heard[name] = x
            if name in left:
                left.remove(name)
                if not left:
                    raise _Enough

        with suppress(_Enough):
            self._forward.layer(
                self._index, self._weights, self._hidden, hear, heard.__setitem__, self._known
            )
        if self._mixer in until:
            self._known[self._mixer] = heard[self._mixer]
        return heard

    def output(self) -> Floats:
        """Return what the layer makes of its input."""
        return self._forward.layer(self._index, self._weights, self._hidden, known=self._known)


class Layer:
    """A layer and its input in each window of the text.

    ``floats`` and ``rounded``: its tensors by short name, as they are, and as they are rounded.
    """

    def __init__(
        self, forward: Forward, model: Description, index: int, hidden: Sequence[Hidden]
    ) -> None:
        self.index, self.prefix = index, forward.prefix(index)
        self.floats: Weights = forward.weights(index)
        self.rounded: Weights = copy(self.floats)  # what is read late stays so
        self._runs = [
            (
                _Run(forward, model, index, self.floats, each.exact),
                _Run(forward, model, index, self.rounded, each.rounded),
            )
            for each in hidden
        ]
        self._tokens = sum(len(each.rounded) for each in hidden)
        self._added = dict(added(model, index))
        self._share = np.float32(1 / model.residual_scale)

    def hessians(self, wanted: Container[str]) -> dict[str, Floats]:
        """Return the mean of x x^T, (columns, columns), over the inputs x of the modules.

        Of those that are wanted, and of all that share an input with one, as the same object.
        """
        sums: dict[str, Floats] = {}
        leaders: dict[str, str] = {}
        for _, rounded in self._runs:
            heard = rounded.heard()
            for names in same(heard):
                if not any(name in wanted for name in names):
                    continue
                leaders.update(dict.fromkeys(names, names[0]))
                x = heard[names[0]]
                own = x.T @ (x * np.float32(1 / self._tokens))
                sums[names[0]] = sums[names[0]] + own if names[0] in sums else own
        return {name: sums[leader] for name, leader in leaders.items()}

    def inputs(self, modules: Sequence[str]) -> Inputs:
        """Return the input that modules share, in the rounded model and in the float one.

        Of modules in the order of the data: what is before them may not change any more.
        """
        return Inputs.of(
            self._moments(modules[0], rounded.heard(modules), exact.heard(modules))
            for exact, rounded in self._runs
        )

    def _moments(self, name: str, heard: Weights, meant: Weights) -> Moments:
        """Return a window's part of the means over all tokens."""
        lacking = None
        if norm := self._added.get(name):
            lacking = (meant[norm] - heard[norm]) * self._share
        return Moments.of(heard[name], meant[name], self._tokens, lacking)

    def outputs(self) -> list[Hidden]:
        """Return what the layer makes of its input."""
        return [Hidden(exact.output(), rounded.output()) for exact, rounded in self._runs]


def same(values: Mapping[str, object]) -> Iterable[list[str]]:
    """Return names in their order, those of the same object together."""
    groups: dict[int, list[str]] = {}
    for name, each in values.items():
        groups.setdefault(id(each), []).append(name)
    return groups.values()

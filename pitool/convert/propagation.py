"""What a matrix makes up for: what rounding has lost before it.

Its inputs are not what they are in the float model, and neither is what its result is added to. By
least squares it can give what was meant all the same (quantisation error propagation: Arai and
Ichikawa 2025, arXiv:2504.09629; the residual is added here). Owns these sums and the matrix that
follows from them; how it is rounded is ``feedback``'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from pitool.architectures.description import Description
from pitool.convert.feedback import damped
from pitool.convert.lattice import Floats
from pitool.convert.numpy_layer import mixer_output

# Of the typical value of the Hessian's diagonal: the penalty on any change. With less, a text that
# is fitted more closely gains less on every other; measured on SmolLM2-135M.
RIDGE = 2.0


@dataclass(frozen=True, slots=True)
class Moments:
    """What flows into matrices, x in the rounded model and f in the float one: sums over tokens.

    ``hessian``: of x x^T; ``drift``: of (f - x) x^T, both (columns, columns). ``residual``: of
    (s - r) x^T, (hidden, columns), where the result is added to r in the rounded model and to s in
    the float one; None where it is added to nothing.
    """

    hessian: Floats
    drift: Floats
    residual: Floats | None = None

    @classmethod
    def of(cls, x: Floats, f: Floats, tokens: int, lacking: Floats | None = None) -> Moments:
        """Return a window's part of the means over all tokens; x and f (tokens, columns).

        ``lacking``: s - r, (tokens, hidden).
        """
        each = x * np.float32(1 / tokens)
        residual = None if lacking is None else lacking.T @ each
        return cls(x.T @ each, (f - x).T @ each, residual)

    def add(self, other: Moments) -> None:
        """Add those of other tokens."""
        np.add(self.hessian, other.hessian, out=self.hessian)
        np.add(self.drift, other.drift, out=self.drift)
        if self.residual is not None and other.residual is not None:
            np.add(self.residual, other.residual, out=self.residual)

    def missing(self, rows: Floats) -> Floats:
        """Return what the results of a matrix lack, times x^T: (rows, columns)."""
        lacking: Floats = rows @ self.drift
        return lacking if self.residual is None else lacking + self.residual


@dataclass(frozen=True, slots=True)
class Inputs:
    """The moments of a text's windows, every other one apart; one where there is one window."""

    halves: tuple[Moments, ...]

    @classmethod
    def of(cls, windows: Iterable[Moments]) -> Inputs:
        """Return those of a text from the moments of each window, the first of which change."""
        halves: list[Moments] = []
        for i, moments in enumerate(windows):
            if i < 2:
                halves.append(moments)
            else:
                halves[i % 2].add(moments)
        return cls(tuple(halves))

    @property
    def hessian(self) -> Floats:
        """Of all windows."""
        total: Floats = np.sum([half.hessian for half in self.halves], axis=0, dtype=np.float32)
        return total


class Correction:
    """What matrices that share their inputs make up for, as far as a text can tell.

    A change that half of the text asks for counts by as much as it helps the other half: all of it,
    a part, or nothing where there is only one window.
    """

    def __init__(self, inputs: Inputs, ridge: float = RIDGE) -> None:
        self._halves = inputs.halves
        if len(self._halves) > 1:
            self._first = np.linalg.inv(damped(self._halves[0].hessian, ridge))
            self._whole = np.linalg.inv(damped(inputs.hessian, ridge))

    def corrected(self, rows: Floats) -> Floats:
        """Return the matrix (rows, columns) that gives what was meant."""
        if len(self._halves) < 2:
            return rows
        first, second = self._halves
        asked, missing = first.missing(rows), second.missing(rows)
        tried = (asked @ self._first).astype(np.float32)
        gain = float(np.vdot(tried, missing))
        cost = float(np.vdot(tried @ second.hessian, tried))
        if gain <= 0 or cost <= 0:
            return rows
        change = ((asked + missing) @ self._whole).astype(np.float32)
        return rows + np.float32(min(gain / cost, 1.0)) * change


def added(model: Description, layer: int) -> Iterator[tuple[str, str]]:
    """Yield the matrices of a layer whose result is added to the input of a norm, with its name.

    What a norm changes first, or what has no norm before its block, is left out.
    """
    layout = model.layout
    if layout.before_attention and not layout.after_attention:
        yield mixer_output(model, layer), layout.before_attention
    # Of a parallel block attention has made up for it already.
    if layout.before_mlp and not layout.after_mlp and not model.parallel:
        yield layout.down, layout.before_mlp

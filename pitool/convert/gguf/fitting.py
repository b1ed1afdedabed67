"""A GGUF of a given size: the type of every tensor, chosen so that as little as possible is lost.

The loss of a tensor at a type is its importance-weighted squared rounding error, which is the
expected error of the matrix product (for uncorrelated inputs), times the sensitivity of the
model's predictions to it. Choosing types within a budget of bytes is a multiple-choice knapsack.
Taking the upgrades on each tensor's lower convex hull in order of gain per byte (Sinha and
Zoltners 1979) is optimal except for the last one; the bytes that are left go to the best upgrades
that still fit.

Before anything is measured only the sizes are known, so the plan assumes that every weight
matters alike; the measured losses decide later. Memory and verdict are computed for both.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pitool.catalog import gguf
from pitool.catalog.gguf import padded
from pitool.catalog.model_shape import ModelShape, TensorShape
from pitool.catalog.tensor_types import Quantisation, TensorType
from pitool.convert.gguf.losses import Losses, candidates
from pitool.errors import DoesNotFit
from pitool.planning.places import Place
from pitool.planning.planner import Planner, Row
from pitool.planning.type_mixture import TypedTensor, assign_types
from pitool.report.numbers import compare_bytes

# general.file_type is that of Q4_K_M, since ggml has no number for a custom mixture.
FIT = Quantisation("FIT", 15, "Q4_K")
# The budget converges in a few steps; each removes at least half of the excess.
ATTEMPTS = 12


@dataclass(frozen=True, slots=True)
class Fitting:
    """Solves the types for a place; ``bytes``: largest file size, None for what the place holds."""

    planner: Planner
    place: Place
    bytes: int | None

    def planned(self) -> Row:
        """Return the row of the plan; DoesNotFit if not even the smallest types fit."""
        model = self.planner.model.shape
        rest = sum(padded(t.bytes) for t in self._floats())
        choices = options_of(_free(model), _alike)
        return self._solve(choices, rest)[1]

    def solve(self, exact: Path, losses: Losses) -> tuple[dict[str, TensorType], Row]:
        """Return the types by measured losses, and their row; ``exact``: the float GGUF."""
        model = self.planner.model.shape
        choices = options_of(_free(model), lambda t, kind: losses[t.name][kind.name])
        header = gguf.read_header(exact)
        chosen = sum(padded(t.bytes) for t in header.tensors if t.name in choices)
        return self._solve(choices, exact.stat().st_size - chosen)

    def _solve(self, choices: Options, rest: int) -> tuple[dict[str, TensorType], Row]:
        """Return types and row; ``rest``: bytes of the file that no choice can change."""
        most = sum(max(c.bytes for c in options) for options in choices.values())
        budget = most if self.bytes is None else self.bytes - rest
        for _ in range(ATTEMPTS):
            types = allocate(choices, budget)
            row = self._row(types)
            if row.fits or self.bytes is not None:
                break
            over = row.peak - self.place.budget(self.planner.profile)
            held = sum(c.bytes for n, options in choices.items() for c in options
                       if c.type is types[n])  # fmt: skip
            budget = min(budget, held) - max(over // 2, held // 200)
        self.planner.require(row, None if self.bytes else [])
        return types, row

    def _row(self, types: Mapping[str, TensorType]) -> Row:
        planner = self.planner
        typed = tuple(
            TypedTensor(t.tensor, types.get(t.tensor.name, t.type))
            for t in assign_types(planner.model.shape, FIT)
        )
        model = replace(planner.model, stored={FIT.name: typed})
        return replace(planner, model=model).row(FIT, self.place)

    def _floats(self) -> list[TypedTensor]:
        shape = self.planner.model.shape
        return [
            t for t in assign_types(shape, FIT) if shape.keeps(t.tensor) or not candidates(t.tensor)
        ]


def _free(model: ModelShape) -> list[TensorShape]:
    """Return the tensors whose type is to be chosen."""
    return [tensor for tensor in model.tensors if not model.keeps(tensor)]


def _alike(tensor: TensorShape, kind: TensorType) -> float:
    """Return the loss when every weight matters alike: each bit divides it by four."""
    return float(tensor.weights * 4.0**-kind.bits)


@dataclass(frozen=True, slots=True)
class TypeOption:
    """A type that a tensor may have: its size in bytes, and the loss it causes."""

    type: TensorType
    bytes: int
    loss: float


Options = Mapping[str, Sequence[TypeOption]]
"""The types that each tensor may have."""


def allocate(choices: Options, budget: int) -> dict[str, TensorType]:
    """Return the type of each tensor; DoesNotFit when the smallest exceed ``budget`` bytes."""
    taken = {name: min(options, key=lambda c: c.bytes) for name, options in choices.items()}
    left = budget - sum(choice.bytes for choice in taken.values())
    if left < 0:
        needed, available = compare_bytes(budget - left, budget)
        raise DoesNotFit(
            f"even the smallest types need {needed}, more than the {available} available",
            "choose a larger --size or a smaller model",
        )
    left = _climb(choices, taken, left)
    _fill(choices, taken, left)
    return {name: choice.type for name, choice in taken.items()}


def _climb(choices: Options, taken: dict[str, TypeOption], left: int) -> int:
    """Take the upgrades on the hulls, best first, until one does not fit; return the rest."""
    queue: list[tuple[float, str, int]] = []
    hulls = {name: hull(options) for name, options in choices.items()}
    for name, steps in hulls.items():
        taken[name] = steps[0]
        _push(queue, steps, name, 0)
    while queue:
        _, name, i = heapq.heappop(queue)
        cost = hulls[name][i + 1].bytes - hulls[name][i].bytes
        if cost > left:
            break
        left -= cost
        taken[name] = hulls[name][i + 1]
        _push(queue, hulls[name], name, i + 1)
    return left


def _push(
    queue: list[tuple[float, str, int]], steps: Sequence[TypeOption], name: str, i: int
) -> None:
    if i + 1 < len(steps):
        gain = (steps[i].loss - steps[i + 1].loss) / (steps[i + 1].bytes - steps[i].bytes)
        heapq.heappush(queue, (-gain, name, i))


def _fill(choices: Options, taken: dict[str, TypeOption], left: int) -> None:
    """Spend the rest: repeatedly take the upgrade that gains most of those that still fit."""
    while True:
        upgrades = [
            (taken[name].loss - choice.loss, name, choice)
            for name, options in choices.items()
            for choice in options
            if 0 <= choice.bytes - taken[name].bytes <= left and choice.loss < taken[name].loss
        ]
        if not upgrades:
            return
        _, name, choice = max(upgrades, key=lambda u: u[0])
        left -= choice.bytes - taken[name].bytes
        taken[name] = choice


def hull(options: Iterable[TypeOption]) -> list[TypeOption]:
    """Return the lower convex hull of loss over bytes, in order of bytes."""
    steps: list[TypeOption] = []
    for choice in sorted(options, key=lambda c: (c.bytes, c.loss)):
        if steps and choice.loss >= steps[-1].loss:
            continue
        while len(steps) > 1 and _slope(steps[-2], steps[-1]) >= _slope(steps[-2], choice):
            steps.pop()
        steps.append(choice)
    return steps


def _slope(a: TypeOption, b: TypeOption) -> float:
    return (b.loss - a.loss) / (b.bytes - a.bytes)


def options_of(
    tensors: Iterable[TensorShape], loss: Callable[[TensorShape, TensorType], float]
) -> Options:
    """Return the options of all tensors that can be quantised."""
    return {
        tensor.name: tuple(
            TypeOption(kind, padded(kind.size(tensor.shape)), loss(tensor, kind)) for kind in kinds
        )
        for tensor in tensors
        if (kinds := candidates(tensor))
    }

"""Chooses the type of every tensor so that a file of a given size loses as little as possible.

The loss of a tensor at a type is the importance-weighted squared rounding error, which is the
expected error of the matrix product (for uncorrelated inputs), times how much the model's answers
suffer from it. Choosing under a byte budget is a multiple-choice knapsack: the upgrades of each
tensor's lower convex hull, best gain per byte first (Sinha and Zoltners 1979), are optimal but
for the last one; what is left is filled with the best upgrades that still fit.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pitool.catalog.gguf import padded
from pitool.catalog.model_shape import TensorShape
from pitool.catalog.tensor_types import TENSOR_TYPES, TensorType
from pitool.errors import DoesNotFit
from pitool.planning.type_mixture import quantisable
from pitool.report.numbers import format_bytes

# Those that llama.cpp makes without an importance matrix too and whose kernels are fast on a
# board's CPU; the 32-blocks are for rows that 256 does not divide.
CANDIDATES = ("Q2_K", "Q3_K", "IQ4_XS", "Q4_K", "Q5_K", "Q6_K", "Q8_0")
SMALL_BLOCKS = ("Q4_0", "IQ4_NL", "Q4_1", "Q5_0", "Q5_1", "Q8_0")


@dataclass(frozen=True, slots=True)
class Choice:
    """A type that a tensor may have: stored bytes and the loss it brings."""

    type: TensorType
    bytes: int
    loss: float


def candidates(tensor: TensorShape) -> tuple[TensorType, ...]:
    """Return the types whose blocks divide the rows of a tensor, none for one that stays float."""
    if not quantisable(tensor):
        return ()
    for names in (CANDIDATES, SMALL_BLOCKS):
        types = tuple(TENSOR_TYPES[name] for name in names)
        if all(tensor.shape[-1] % kind.block == 0 for kind in types):
            return types
    return ()


def allocate(choices: Mapping[str, Sequence[Choice]], budget: int) -> dict[str, TensorType]:
    """Return the type of each tensor within ``budget`` bytes; DoesNotFit when none is so small."""
    taken = {name: min(options, key=lambda c: c.bytes) for name, options in choices.items()}
    left = budget - sum(choice.bytes for choice in taken.values())
    if left < 0:
        raise DoesNotFit(
            f"the smallest types need {format_bytes(budget - left)},"
            f" {format_bytes(budget)} were asked for",
            "ask for a larger --size or take a smaller model",
        )
    left = _climb(choices, taken, left)
    _fill(choices, taken, left)
    return {name: choice.type for name, choice in taken.items()}


def _climb(choices: Mapping[str, Sequence[Choice]], taken: dict[str, Choice], left: int) -> int:
    """Take the upgrades of the hulls, best first, until one does not fit; return what is left."""
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


def _push(queue: list[tuple[float, str, int]], steps: Sequence[Choice], name: str, i: int) -> None:
    if i + 1 < len(steps):
        gain = (steps[i].loss - steps[i + 1].loss) / (steps[i + 1].bytes - steps[i].bytes)
        heapq.heappush(queue, (-gain, name, i))


def _fill(choices: Mapping[str, Sequence[Choice]], taken: dict[str, Choice], left: int) -> None:
    """Spend what is left: again and again the upgrade that gains most among those that fit."""
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


def hull(options: Iterable[Choice]) -> list[Choice]:
    """Return the lower convex hull of loss over bytes, by bytes."""
    steps: list[Choice] = []
    for choice in sorted(options, key=lambda c: (c.bytes, c.loss)):
        if steps and choice.loss >= steps[-1].loss:
            continue
        while len(steps) > 1 and _slope(steps[-2], steps[-1]) >= _slope(steps[-2], choice):
            steps.pop()
        steps.append(choice)
    return steps


def _slope(a: Choice, b: Choice) -> float:
    return (b.loss - a.loss) / (b.bytes - a.bytes)


def table(
    tensors: Iterable[TensorShape], loss: Callable[[TensorShape, TensorType], float]
) -> dict[str, tuple[Choice, ...]]:
    """Return the choices of all tensors that can be quantised."""
    return {
        tensor.name: tuple(
            Choice(kind, padded(kind.size(tensor.shape)), loss(tensor, kind)) for kind in kinds
        )
        for tensor in tensors
        if (kinds := candidates(tensor))
    }

"""A GGUF of a given size and speed: the type of every tensor, so that the least is lost.

The loss of a tensor at a type is its importance-weighted squared rounding error, which is the
expected error of the matrix product (for uncorrelated inputs), times the sensitivity of the
model's predictions to it. The budgets are the bytes of the file and, for a speed that is to be
reached, the seconds that each board reads and computes for a token: ``knapsack`` keeps them all.

Before anything is measured only the sizes are known, so the plan assumes that every weight
matters alike; the measured losses decide later. Memory and verdict are computed for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pitool.catalog import gguf
from pitool.catalog.boards import Board
from pitool.catalog.gguf import padded
from pitool.catalog.model_shape import ModelShape, TensorShape
from pitool.catalog.tensor_types import Quantisation, TensorType
from pitool.convert.gguf import knapsack
from pitool.convert.gguf.losses import Losses, candidates
from pitool.errors import DoesNotFit, UsageError
from pitool.planning.decode import DecodeSeconds, state_seconds, tensor_seconds
from pitool.planning.formats import GGUF
from pitool.planning.places import Place
from pitool.planning.planner import Planner, Row
from pitool.planning.speed import NONE
from pitool.planning.type_mixture import TypedTensor, assign_types
from pitool.report.numbers import compare_bytes, compare_fixed

# general.file_type is that of Q4_K_M, since ggml has no number for a custom mixture.
FIT = Quantisation("FIT", 15, "Q4_K")
# The budget converges in a few steps; each removes at least half of the excess.
ATTEMPTS = 12


@dataclass(frozen=True, slots=True)
class Solution:
    """The type of each tensor, the loss of all in the unit of the losses, and the row of the plan.

    ``bound``: what any choice within the budgets loses at least.
    """

    types: Mapping[str, TensorType]
    loss: float
    bound: float
    row: Row


@dataclass(frozen=True, slots=True)
class Fitting:
    """Solves the types for a place.

    ``bytes``: largest file size, None for what the place holds; ``target``: decode tokens/s that
    every board of the place is predicted to reach, None for any speed.
    """

    planner: Planner
    place: Place
    bytes: int | None
    target: float | None = None

    def planned(self) -> Row:
        """Return the row of the plan; DoesNotFit if no types keep the budgets."""
        rest = sum(padded(t.bytes) for t in self._typed({}) if self._is_fixed(t))
        return self._solve(self._options(_alike), rest).row

    def solve(self, exact: Path, losses: Losses, *, required: bool = True) -> Solution:
        """Return the types by measured losses; ``exact``: the float GGUF.

        ``required``: DoesNotFit for what the place cannot hold.
        """
        choices, rest = self._measured(exact, losses)
        return self._solve(choices, rest, required=required)

    def range(self, exact: Path, losses: Losses) -> tuple[int, int]:
        """Return the bytes of the smallest and of the largest file that there can be."""
        choices, rest = self._measured(exact, losses)
        sizes = [[c.bytes for c in options] for options in choices.values()]
        return rest + sum(map(min, sizes)), rest + sum(map(max, sizes))

    def _measured(self, exact: Path, losses: Losses) -> tuple[Options, int]:
        """Return the options by measured losses, and the bytes that no choice can change."""
        choices = self._options(lambda t, kind: losses[t.name][kind.name])
        header = gguf.read_header(exact)
        chosen = sum(padded(t.bytes) for t in header.tensors if t.name in choices)
        return choices, exact.stat().st_size - chosen

    def _solve(self, choices: Options, rest: int, *, required: bool = True) -> Solution:
        """Return the solution; ``rest``: bytes of the file that no choice can change."""
        most = sum(max(c.bytes for c in options) for options in choices.values())
        budget = most if self.bytes is None else self.bytes - rest
        seconds = [left for limit in self._limits for left in limit.left]
        for _ in range(ATTEMPTS):
            made = self._allocate(choices, budget, seconds)
            if made.row.fits or self.bytes is not None:
                break
            over = made.row.peak - self.place.budget(self.planner.profile)
            held = sum(c.bytes for n, options in choices.items() for c in options
                       if c.type is made.types[n])  # fmt: skip
            budget = min(budget, held) - max(over // 2, held // 200)
        if required:
            self.planner.require(made.row, None if self.bytes else [])
        return made

    def _allocate(self, choices: Options, budget: int, seconds: Sequence[float]) -> Solution:
        found = allocate(choices, budget, seconds)
        if found is None:
            smallest = {
                n: min(options, key=lambda c: c.bytes).type for n, options in choices.items()
            }
            reached, wanted = compare_fixed(self._row(smallest).slowest, self.target or 0, digits=1)
            raise DoesNotFit(
                f"no types reach {wanted} tokens/s on {self.place.title} within the size: the"
                f" smallest reach {reached}",
                "choose a smaller --target-tps, a faster --board or a smaller model",
            )
        types, loss, bound = found
        return Solution(types, loss, bound, self._row(types))

    def _row(self, types: Mapping[str, TensorType]) -> Row:
        planner = self.planner
        model = replace(planner.model, stored={FIT.name: tuple(self._typed(types))})
        return replace(planner, model=model).row(FIT, self.place)

    def _typed(self, types: Mapping[str, TensorType]) -> Iterator[TypedTensor]:
        """Yield every tensor, with the type of ``types`` or that of the basic mixture."""
        for t in assign_types(self.planner.model.shape, FIT):
            yield TypedTensor(t.tensor, types.get(t.tensor.name, t.type))

    def _is_fixed(self, stored: TypedTensor) -> bool:
        """Tell whether no type is chosen for a tensor."""
        return self.planner.model.shape.keeps(stored.tensor) or not candidates(stored.tensor)

    def _options(self, loss: Callable[[TensorShape, TensorType], float]) -> Options:
        model = self.planner.model.shape
        free = [tensor for tensor in model.tensors if not model.keeps(tensor)]
        return options_of(free, loss, [limit.take for limit in self._limits])

    @property
    def _limits(self) -> list[_Limit]:
        """The time of a token on each board, of which equal ones are one."""
        if self.target is None:
            return []
        if not self.place.boards:
            raise UsageError(
                f"no speed is predicted for {self.place.title}", "name a board with --board"
            )
        planner = self.planner
        allowed = planner.corrections.get(GGUF.name, NONE).decode / self.target
        fixed = [t for t in self._typed({}) if self._is_fixed(t)]
        fast = None if planner.load.repack else frozenset[str]()
        alike = {
            (b.bandwidth_gbs, b.prefill_gflops, b.kernels, b.repacked): b
            for b in self.place.boards.values()
        }
        return [
            _Limit.of(board, planner.model.shape, fixed, allowed, fast) for board in alike.values()
        ]


@dataclass(frozen=True, slots=True)
class _Limit:
    """The seconds ``left`` for the tensors that are chosen for, of reading and of products."""

    board: Board
    model: ModelShape
    interleaved: frozenset[str]
    left: tuple[float, float]

    @classmethod
    def of(
        cls,
        board: Board,
        model: ModelShape,
        fixed: Iterable[TypedTensor],
        allowed: float,
        interleaved: frozenset[str] | None,
    ) -> _Limit:
        fast = board.repacked if interleaved is None else interleaved
        limit = cls(board, model, fast, (allowed, allowed))
        taken = state_seconds(model, limit._bandwidth)
        for stored in fixed:
            taken += limit.take(stored)
        left = allowed - taken.reading, allowed - taken.products
        return replace(limit, left=left)

    @property
    def _bandwidth(self) -> float:
        return self.board.bandwidth_gbs * 1e9

    def take(self, stored: TypedTensor) -> DecodeSeconds:
        """Return what a tensor takes."""
        return tensor_seconds(self.board, self.model, stored, self.interleaved, self._bandwidth)


def _alike(tensor: TensorShape, kind: TensorType) -> float:
    """Return the loss when every weight matters alike: each bit divides it by four."""
    return float(tensor.weights * 4.0**-kind.bits)


@dataclass(frozen=True, slots=True)
class TypeOption:
    """A type that a tensor may have: its size in bytes, the loss it causes, the seconds it takes.

    ``seconds``: of reading and of products, for each board that a speed is asked of.
    """

    type: TensorType
    bytes: int
    loss: float
    seconds: tuple[float, ...] = ()


Options = Mapping[str, Sequence[TypeOption]]
"""The types that each tensor may have."""


def allocate(
    choices: Options, budget: int, seconds: Sequence[float] = ()
) -> tuple[dict[str, TensorType], float, float] | None:
    """Return the type of each tensor, what all lose, and what they must lose at least.

    None where no types are found that take ``seconds`` at most; DoesNotFit when the smallest
    exceed ``budget`` bytes.
    """
    least = sum(min(c.bytes for c in options) for options in choices.values())
    if least > budget:
        needed, available = compare_bytes(least, budget)
        raise DoesNotFit(
            f"even the smallest types need {needed}, more than the {available} available",
            "choose a larger --size or a smaller model",
        )
    found = knapsack.choose(
        [[c.loss for c in options] for options in choices.values()],
        [[(c.bytes, *c.seconds) for c in options] for options in choices.values()],
        [budget, *seconds],
    )
    if found is None:
        return None
    types = {
        name: options[at].type
        for (name, options), at in zip(choices.items(), found.options, strict=True)
    }
    return types, found.loss, found.bound


def options_of(
    tensors: Iterable[TensorShape],
    loss: Callable[[TensorShape, TensorType], float],
    takes: Sequence[Callable[[TypedTensor], DecodeSeconds]] = (),
) -> Options:
    """Return the options of tensors that can be quantised; ``takes``: the time on each board."""

    def option(tensor: TensorShape, kind: TensorType) -> TypeOption:
        stored = TypedTensor(tensor, kind)
        each = [take(stored) for take in takes]
        seconds = tuple(part for took in each for part in (took.reading, took.products))
        return TypeOption(kind, padded(stored.bytes), loss(tensor, kind), seconds)

    return {
        tensor.name: tuple(option(tensor, kind) for kind in kinds)
        for tensor in tensors
        if (kinds := candidates(tensor))
    }

"""A GGUF of a given size: which types its tensors will have, before and after measuring.

Before, only sizes are known, so the plan's types are those of a model whose every weight counts
alike; after, the measured losses decide. Memory and verdict are computed for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pitool.catalog import gguf
from pitool.catalog.gguf import padded
from pitool.catalog.model_shape import TensorShape
from pitool.catalog.tensor_types import Quantisation, TensorType
from pitool.convert.gguf import allocation
from pitool.convert.gguf.allocation import Choice, allocate
from pitool.convert.gguf.losses import Losses
from pitool.planning.plan import Place, Planner, Row, Verdict
from pitool.planning.refusal import require
from pitool.planning.type_mixture import TypedTensor, assign_types

# Its number in general.file_type is Q4_K_M's: ggml has none for a mixture of one's own.
FIT = Quantisation("FIT", 15, "Q4_K")
# Types settle after a few corrections of the budget; each is larger than what was too much.
ATTEMPTS = 12


@dataclass(frozen=True, slots=True)
class Fitting:
    """``bytes``: the most that the file may have, None for what the place has room for."""

    planner: Planner
    place: Place
    bytes: int | None

    def planned(self) -> Row:
        """Return the row of the plan; DoesNotFit where not even the smallest types fit."""
        model = self.planner.subject.shape
        rest = sum(padded(t.bytes) for t in self._floats())
        choices = allocation.table(model.tensors, _alike)
        return self._solve(choices, rest)[1]

    def solve(self, exact: Path, losses: Losses) -> tuple[dict[str, TensorType], Row]:
        """Return the types by measured losses, and their row; ``exact``: the float GGUF."""
        model = self.planner.subject.shape
        choices = allocation.table(model.tensors, lambda t, kind: losses[t.name][kind.name])
        header = gguf.read_header(exact)
        chosen = sum(padded(t.bytes) for t in header.tensors if t.name in choices)
        return self._solve(choices, exact.stat().st_size - chosen)

    def _solve(
        self, choices: Mapping[str, tuple[Choice, ...]], rest: int
    ) -> tuple[dict[str, TensorType], Row]:
        """``rest``: bytes of the file that are no choice."""
        most = sum(max(c.bytes for c in options) for options in choices.values())
        budget = most if self.bytes is None else self.bytes - rest
        for _ in range(ATTEMPTS):
            types = allocate(choices, budget)
            row = self._row(types)
            if row.verdict is Verdict.FITS or self.bytes is not None:
                break
            over = row.peak - self.place.budget(self.planner.profile)
            held = sum(c.bytes for n, options in choices.items() for c in options
                       if c.type is types[n])  # fmt: skip
            budget = min(budget, held) - max(over // 2, held // 200)
        require(self.planner, row, self.planner.remedies(row) if self.bytes else [])
        return types, row

    def _row(self, types: Mapping[str, TensorType]) -> Row:
        planner = self.planner
        typed = tuple(
            TypedTensor(t.tensor, types.get(t.tensor.name, t.type))
            for t in assign_types(planner.subject.shape, FIT)
        )
        subject = replace(planner.subject, stored={FIT.name: typed})
        return replace(planner, subject=subject).row(FIT, self.place)

    def _floats(self) -> list[TypedTensor]:
        typed = assign_types(self.planner.subject.shape, FIT)
        return [t for t in typed if not allocation.candidates(t.tensor)]


def _alike(tensor: TensorShape, kind: TensorType) -> float:
    """Return the loss of rounding where every weight counts alike: a quarter for each bit."""
    return float(tensor.weights * 4.0**-kind.bits)

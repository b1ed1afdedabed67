"""What a weight costs in a matrix product, by its tensor type (``recipes/kernels.toml``).

A board multiplies at one rate; how far each type stays below it depends on the instructions that
its kernel needs. There is a table for each kind of CPU. Owns no rule of a prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pitool.catalog import tables
from pitool.errors import BadInput


@dataclass(frozen=True, slots=True)
class Kernels:
    """The costs on one kind of CPU; a weight of cost 2 takes twice as long as one of cost 1.

    ``interleaved``: types that ggml interleaves at load; ``plain``: every type as it is stored;
    ``unknown``: the cost of any other type; ``attention``: of a number of the KV cache in F16 that
    is multiplied with a query's or a weight of attention; ``sources``: where each cost is from.
    """

    interleaved: dict[str, float]
    plain: dict[str, float]
    unknown: float
    attention: float
    sources: dict[str, str]

    def __post_init__(self) -> None:
        costs = (*self.interleaved.values(), *self.plain.values(), self.unknown, self.attention)
        if min(costs) <= 0:
            raise ValueError("a cost is not positive")

    def cost(self, name: str, *, interleaved: bool) -> float:
        """Return the cost of a weight of a tensor type."""
        found = self.interleaved.get(name) if interleaved else None
        return self.plain.get(name, self.unknown) if found is None else found


def load_kernels(path: Path | None = None) -> dict[str, Kernels]:
    """Return the costs by the CPU feature that the kernels need."""
    path = path or tables.recipes_folder() / "kernels.toml"
    return {
        key: tables.build(Kernels, table, f"{path.name}: {key}")
        for key, table in tables.read_toml(path).items()
    }


@cache
def kernels() -> dict[str, Kernels]:
    """Return the costs of the installed recipes."""
    return load_kernels()


def find_kernels(name: str) -> Kernels:
    """Return the costs by the name of their table; BadInput names the nearest."""
    return tables.lookup(kernels(), name, "table of kernels", BadInput)

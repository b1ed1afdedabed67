"""What benches measured on this machine beside what was predicted, to predict better.

One JSON file in pitool's home. A prediction for this machine is multiplied by the median of
measured over predicted of the last benches under the same engine.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pitool.catalog import reading, tables
from pitool.catalog.bundles import home
from pitool.catalog.files import write_atomically
from pitool.errors import BadInput
from pitool.planning.formats import GGUF

FILE_NAME = "residuals.json"
KEPT = 40
Phase = Literal["prefill", "decode"]


@dataclass(frozen=True, slots=True)
class Residual:
    """One test: tokens/s ``predicted`` by the table, uncorrected, and ``measured``.

    ``engine``: by its name; predictions for one say nothing of another.
    """

    machine: str
    model: str
    phase: str
    predicted: float
    measured: float
    date: str
    engine: str = GGUF.engine

    def __post_init__(self) -> None:
        if self.predicted <= 0 or self.measured <= 0:
            raise ValueError("speeds must be positive")


def keep(residual: Residual, path: Path | None = None) -> None:
    """Keep a residual in the place of an earlier one of the same model and phase."""
    path = path or home() / FILE_NAME
    others = [r for r in read(path) if _of(r) != _of(residual)]
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = [asdict(r) for r in [*others, residual][-KEPT:]]
    write_atomically(path, f"{json.dumps(kept, indent=2)}\n".encode())


def _of(residual: Residual) -> tuple[str, ...]:
    return residual.machine, residual.engine, residual.model, residual.phase


def read(path: Path | None = None) -> list[Residual]:
    """Return what was kept, the oldest first; nothing where the file cannot be read."""
    path = path or home() / FILE_NAME
    try:
        entries = reading.read_json(path, "delete it")
        return [tables.build(Residual, entry, path.name) for entry in entries]
    except (TypeError, BadInput):
        return []


def factors(machine: str, engine: str = GGUF.engine, path: Path | None = None) -> dict[str, float]:
    """Return the factor of each phase that was measured on a machine."""
    found: dict[str, list[float]] = {}
    for r in read(path):
        if (r.machine, r.engine) == (machine, engine):
            found.setdefault(r.phase, []).append(r.measured / r.predicted)
    return {phase: statistics.median(ratios) for phase, ratios in found.items()}

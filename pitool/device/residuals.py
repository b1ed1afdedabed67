"""What benches measured on this machine beside what was predicted, to predict better.

One JSON file in pitool's home. A prediction for this machine is multiplied by the median of
measured over predicted of the last benches.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pitool.errors import BadInput
from pitool.spec import tables
from pitool.spec.bundles import home
from pitool.spec.files import write_atomically
from pitool.spec.speed import Correction

FILE_NAME = "residuals.json"
KEPT = 40
Phase = Literal["prefill", "decode"]


@dataclass(frozen=True, slots=True)
class Residual:
    """One test: tokens/s ``predicted`` by the table, uncorrected, and ``measured``."""

    machine: str
    model: str
    phase: str
    predicted: float
    measured: float
    date: str

    def __post_init__(self) -> None:
        if self.predicted <= 0 or self.measured <= 0:
            raise ValueError("speeds must be positive")


def keep(residual: Residual, path: Path | None = None) -> None:
    """Keep a residual in the place of an earlier one of the same model and phase."""
    path = path or home() / FILE_NAME
    same = (residual.machine, residual.model, residual.phase)
    others = [r for r in read(path) if (r.machine, r.model, r.phase) != same]
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = [asdict(r) for r in [*others, residual][-KEPT:]]
    write_atomically(path, f"{json.dumps(kept, indent=2)}\n".encode())


def read(path: Path | None = None) -> list[Residual]:
    """Return what was kept, the oldest first; nothing where the file cannot be read."""
    path = path or home() / FILE_NAME
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [tables.build(Residual, entry, path.name) for entry in entries]
    except (OSError, ValueError, TypeError, BadInput):
        return []


def correction(machine: str, path: Path | None = None) -> Correction:
    """Return the factors for a machine; 1 for a phase that was never measured."""
    found = [r for r in read(path) if r.machine == machine]
    return Correction(_factor(found, "prefill"), _factor(found, "decode"))


def _factor(found: list[Residual], phase: Phase) -> float:
    ratios = [r.measured / r.predicted for r in found if r.phase == phase]
    return statistics.median(ratios) if ratios else 1.0

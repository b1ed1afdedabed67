"""Results that are kept: a technique that is done is not done again.

A folder for what a result depends on besides its technique: the checkpoint's bytes, text, prompts,
threads, versions. A result has its file when it is whole; failures are not kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pitool
from pitool.catalog import reading, tables
from pitool.catalog.bundles import home
from pitool.catalog.files import write_atomically
from pitool.catalog.manifest import Source
from pitool.convert.techniques.base import Technique
from pitool.errors import BadInput
from pitool.lab.result import TechniqueResult

# Raised when results are measured otherwise: old ones are not set beside new ones.
MEASUREMENT = 1
_MATERIAL = "text.json"
_FORGET = "delete it, and compare again"
PACKAGES = ("llama-cpp-python", "onnxruntime", "numpy")


def versions() -> dict[str, str]:
    """Return the versions that a result's figures depend on."""
    return {"pitool": pitool.__version__, **{name: version(name) for name in PACKAGES}}


@dataclass(frozen=True, slots=True)
class MaterialNames:
    """What results were measured on: names of the texts, and the number of predictions."""

    text: str
    tokens: int
    calibration: str


class ResultStore:
    """The results of one model, text, set of prompts and machine."""

    def __init__(
        self,
        source: Source,
        text: str,
        prompts: Sequence[str],
        machine: str,
        threads: int,
    ) -> None:
        parts: list[Any] = [
            MEASUREMENT, versions(), asdict(source), text, list(prompts), machine, threads,
        ]  # fmt: skip
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
        self.folder = home() / "lab" / f"{source.id.rpartition('/')[2]}-{digest}"

    def find(self, technique: Technique) -> TechniqueResult | None:
        """Return the result of a technique that is done; None for none, or a damaged one."""
        path = self._path(technique)
        try:
            return tables.build(TechniqueResult, reading.read_json(path, _FORGET), path.name)
        except BadInput:
            return None

    def keep(self, technique: Technique, result: TechniqueResult) -> None:
        """Store a result, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(result), indent=1)
        write_atomically(self._path(technique), text.encode())

    def keep_material(self, names: MaterialNames) -> None:
        """Store what the results are measured on."""
        write_atomically(self.folder / _MATERIAL, json.dumps(asdict(names)).encode())

    def material(self) -> MaterialNames:
        """Return what the results were measured on; it is stored before the first of them."""
        path = self.folder / _MATERIAL
        return tables.build(MaterialNames, reading.read_json(path, _FORGET), path.name)

    def forget(self) -> None:
        """Remove all results; another comparison may be working in the folder."""
        for path in self.folder.glob("*.json"):
            path.unlink(missing_ok=True)

    def _path(self, technique: Technique) -> Path:
        return self.folder / f"{technique.name}-v{technique.version}.json"

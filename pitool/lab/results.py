"""Rows that are kept: a technique that is done is not done again.

A folder for what a row depends on besides its technique: the checkpoint's bytes, text, prompts,
threads, versions. A row has its file when it is whole; failed rows are not kept.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pitool
from pitool.catalog import tables
from pitool.catalog.bundles import home
from pitool.catalog.files import write_atomically
from pitool.catalog.manifest import Source
from pitool.convert.techniques.base import Technique
from pitool.errors import BadInput
from pitool.lab.row import Row

# Raised when rows are measured otherwise, so that old ones are not set beside new ones.
MEASUREMENT = 1
_STOOD = "text.json"
PACKAGES = ("llama-cpp-python", "onnxruntime", "numpy")


def versions() -> dict[str, str]:
    """Return the versions that a row's figures depend on."""
    return {"pitool": pitool.__version__, **{name: version(name) for name in PACKAGES}}


@dataclass(frozen=True, slots=True)
class Stood:
    """What rows stand on: names of the texts, and the number of predictions compared."""

    text: str
    tokens: int
    calibration: str


class Results:
    """The rows of one model, text, set of prompts and machine."""

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

    def find(self, technique: Technique) -> Row | None:
        """Return the row of a technique that is done; None for one that is not, or is damaged."""
        path = self._path(technique)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return tables.build(Row, values, path.name)
        except (OSError, ValueError, BadInput):
            return None

    def keep(self, technique: Technique, row: Row) -> None:
        """Store a row, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(row), indent=1, ensure_ascii=False)
        write_atomically(self._path(technique), text.encode())

    def stand(self, stood: Stood) -> None:
        """Store what the rows stand on."""
        write_atomically(self.folder / _STOOD, json.dumps(asdict(stood)).encode())

    def stood(self) -> Stood:
        """Return what the rows stand on; it is stored before the first row."""
        path = self.folder / _STOOD
        return tables.build(Stood, json.loads(path.read_text(encoding="utf-8")), path.name)

    def forget(self) -> None:
        """Remove all rows."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, technique: Technique) -> Path:
        return self.folder / f"{technique.name}-v{technique.version}.json"

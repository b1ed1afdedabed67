"""Certifies all artifacts of a conversion against one reference, made when the first is there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pitool.catalog.manifest import Certificate
from pitool.catalog.model_shape import ModelShape
from pitool.checkpoint.source import Checkpoint
from pitool.convert.reference import covers
from pitool.convert.verify import (
    Kind,
    OpenEngine,
    Reference,
    certify,
    make_reference,
    tokens_to_compare,
)
from pitool.quality import compact
from pitool.quality.divergence import WINDOW
from pitool.quality.health import LogitsEngine
from pitool.report.progress import Progress


class Certifier:
    """Holds the reference; what of it travels is written into the bundle's ``folder``."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        model: ModelShape,
        folder: Path,
        open_engine: OpenEngine,
        progress: Progress,
    ) -> None:
        self._checkpoint, self._layers, self._folder = checkpoint, model.layers, folder
        self._open_engine, self._progress = open_engine, progress
        self._tokens = tokens_to_compare(model.parameters)
        self._reference: Reference | None = None

    @property
    def begun(self) -> bool:
        """Whether there is a reference."""
        return self._reference is not None

    def certify(self, entry: Path, kind: Kind) -> Certificate:
        """Return the measured quality of an artifact.

        The first must be a float one where the checkpoint's own forward pass is not known: then
        its logits are the reference.
        """
        with self._open_engine(entry, min(self._tokens, WINDOW)) as engine:
            reference = self._reference or self._refer(engine, entry)
            self._progress.stage(f"verifying {kind.name}", 1)
            found = certify(engine, reference, kind, self._checkpoint.source.id)
            self._progress.advance(1)
        return found

    def _refer(self, engine: LogitsEngine, entry: Path) -> Reference:
        progress = self._progress
        progress.stage("computing the reference", self._layers)
        made = make_reference(
            self._checkpoint, engine, self._tokens, lambda _done, _all: progress.advance(1)
        )
        if entry.is_dir() and not covers(self._checkpoint.config):
            made = replace(made, of="the float ONNX graph of {}")
        compact.write(self._folder / compact.FILE_NAME, made.compact)
        self._reference = made
        return made

"""What the manifest of a converted bundle says: its checkpoint, and each artifact as planned.

For ``convert`` and for the lab's bundles; the entry of an artifact is ``planning.entries``'s.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pitool.catalog import manifest
from pitool.catalog.manifest import (
    Artifact,
    Certificate,
    FileEntry,
    Fit,
    Manifest,
)
from pitool.checkpoint.source import Checkpoint
from pitool.convert.conversion import Conversion
from pitool.convert.trim.kept import KEPT
from pitool.planning.entries import artifact, versions
from pitool.planning.formats.base import ArtifactPlan
from pitool.quality import compact

IMPORTANCE = "importance.gguf"


def describe(
    folder: Path,
    checkpoint: Checkpoint,
    source: manifest.Source,
    artifacts: Sequence[Artifact],
    *,
    tier: str,
    board: str | None = None,
) -> Manifest:
    """Return the manifest of the bundle in ``folder`` that holds ``artifacts``."""
    recipe = checkpoint.source.recipe
    return Manifest(
        name=source.id.rpartition("/")[2],
        source=source,
        tier=tier,
        board=board,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=versions(),
        artifacts=tuple(artifacts),
        licence=recipe.licence if recipe else None,
        reference=next(iter(_entries(folder, compact.FILE_NAME)), None),
        extras=(*_entries(folder, IMPORTANCE), *_entries(folder, KEPT)),
    )


def _entries(folder: Path, name: str) -> tuple[FileEntry, ...]:
    """Return the entry of a file that a maker may have written into the bundle."""
    path = folder / name
    return (manifest.file_entry(path, folder),) if path.is_file() else ()


def planned_artifact(
    work: Conversion,
    plan: ArtifactPlan,
    files: Sequence[Path],
    certificate: Certificate | None,
    adapters: Sequence[Path] = (),
    *,
    weights: str = "",
    cosine: float | None = None,
    fit: Fit | None = None,
) -> Artifact:
    """Return the entry of an artifact that is what was planned.

    ``weights``, ``cosine`` and ``fit``: see ``Artifact``.
    """
    return artifact(
        work.folder,
        [*files, *work.tokens.write(work.folder, entry_of(work.folder, files))],
        work.plan.model,
        of_vocabulary(work, plan, certificate),
        format_name=plan.format,
        quantisation=plan.quantisation.name,
        context=plan.context,
        bits_per_weight=plan.bits_per_weight,
        memory=plan.memory,
        load=plan.load,
        speed=plan.speeds,
        adapters=adapters,
        tokenization=work.tokens.of(entry_of(work.folder, files)),
        weights=weights,
        cosine=cosine,
        fit=fit,
    )


def of_vocabulary(
    work: Conversion, plan: ArtifactPlan, certificate: Certificate | None
) -> Certificate | None:
    """Return a certificate that says what is left of the vocabulary, where that was cut."""
    trim = work.checkpoint.source.trim
    if certificate is None or trim is None:
        return certificate
    made = replace(certificate, vocabulary=trim.said)
    before = work.plan.whole.get(plan.quantisation.name)
    if before is None:
        return made
    return replace(
        made,
        bytes_saved=before.bytes - plan.bytes,
        memory_saved=before.memory.total - plan.memory.total,
    )


def entry_of(bundle: Path, files: Sequence[Path]) -> Path:
    """Return what an engine opens of an artifact's files: its GGUF, or its folder."""
    return files[0] if files[0].parent == bundle else files[0].parent


def graph_first(folder: Path) -> list[Path]:
    """Return the files of an ONNX folder in the manifest's order."""
    files = sorted(folder.rglob("*"), key=lambda path: (path.suffix != ".onnx", path))
    return [path for path in files if path.is_file()]

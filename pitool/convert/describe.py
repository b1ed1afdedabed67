"""What a manifest says: each artifact, and what made them.

The one place that builds a manifest and its entries, for ``convert`` and for the lab's bundles.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from collections.abc import Sequence
from pathlib import Path

import pitool
from pitool.catalog import manifest
from pitool.catalog.manifest import (
    Artifact,
    Certificate,
    FileEntry,
    Manifest,
    MemoryLine,
    Speed,
    Tokenization,
)
from pitool.catalog.model_shape import ModelShape
from pitool.checkpoint.source import Checkpoint
from pitool.convert.conversion import Conversion
from pitool.planning.formats.base import ArtifactPlan
from pitool.planning.formats.onnx import VOCABULARY_ENTRY_BYTES
from pitool.planning.memory import Load, MemoryPlan
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
        extras=_entries(folder, IMPORTANCE),
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
) -> Artifact:
    """Return the entry of an artifact that is what was planned."""
    return artifact(
        work.folder,
        [*files, *work.tokens.write(work.folder, entry_of(work.folder, files))],
        work.plan.model,
        certificate,
        format_name=plan.format,
        quantisation=plan.quantisation.name,
        context=plan.context,
        bits_per_weight=plan.bits_per_weight,
        memory=plan.memory,
        load=plan.load,
        speed=plan.speeds,
        adapters=adapters,
        tokenization=work.tokens.of(entry_of(work.folder, files)),
    )


def artifact(
    folder: Path,
    files: Sequence[Path],
    model: ModelShape,
    certificate: Certificate | None,
    *,
    format_name: str,
    quantisation: str,
    context: int,
    bits_per_weight: float,
    memory: MemoryPlan,
    load: Load,
    speed: tuple[Speed, ...] = (),
    adapters: Sequence[Path] = (),
    tokenization: Tokenization | None = None,
) -> Artifact:
    """Return the entry of an artifact in the bundle ``folder``; hashes are read from the disk.

    ``load``: what its ``memory`` is planned with.
    """
    return Artifact(
        format=format_name,
        quantisation=quantisation,
        files=tuple(manifest.file_entry(path, folder) for path in (*files, *adapters)),
        architecture=model.architecture,
        parameters=model.parameters,
        context=context,
        bits_per_weight=round(bits_per_weight, 3),
        memory=(*memory.lines, *_tokenizer_memory(model, tokenization)),
        speed=speed,
        certificate=certificate,
        kv_type=load.kv_type,
        micro_batch=load.micro_batch,
        adapters=tuple(path.name for path in adapters),
        tokenization=tokenization,
    )


def _tokenizer_memory(model: ModelShape, tokens: Tokenization | None) -> tuple[MemoryLine, ...]:
    """Return what the tokenizers library takes beside an engine that has its own vocabulary."""
    if tokens is None or tokens.folder is None:
        return ()
    return (MemoryLine("tokenizer", model.vocabulary * VOCABULARY_ENTRY_BYTES),)


def entry_of(bundle: Path, files: Sequence[Path]) -> Path:
    """Return what an engine opens of an artifact's files: its GGUF, or its folder."""
    return files[0] if files[0].parent == bundle else files[0].parent


def graph_first(folder: Path) -> list[Path]:
    """Return the files of an ONNX folder in the manifest's order."""
    files = sorted(folder.rglob("*"), key=lambda path: (path.suffix != ".onnx", path))
    return [path for path in files if path.is_file()]


def versions() -> dict[str, str]:
    """Return the versions of pitool and of what it makes artifacts with."""
    packages = ("llama-cpp-python", "gguf", "numpy", "onnx", "onnxruntime")
    found = {name: importlib.metadata.version(name) for name in packages}
    return {"pitool": pitool.__version__, "python": platform.python_version(), **found}

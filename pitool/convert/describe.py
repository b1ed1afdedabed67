"""What the manifest says: the checkpoint's files, each artifact, and what made them."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

import pitool
from pitool.catalog import manifest
from pitool.catalog.manifest import Artifact, Certificate, FileEntry, Manifest
from pitool.checkpoint import hub
from pitool.checkpoint.source import Checkpoint
from pitool.checkpoint.tensors import weight_files
from pitool.convert.conversion import Conversion
from pitool.convert.progress import Progress
from pitool.errors import BadInput
from pitool.planning.plan import ArtifactPlan
from pitool.planning.plan_onnx import OnnxPlan
from pitool.quality import compact

IMPORTANCE = "importance.gguf"


def hash_sources(checkpoint: Checkpoint, progress: Progress) -> manifest.Source:
    """Return the files that an artifact is made from, with their hashes."""
    source = checkpoint.source
    folder, paths = _files(checkpoint.folder)
    progress.stage(
        "hashing the checkpoint", len(paths) + 2 * len((*source.adapters, *source.apart))
    )

    def entries(paths: Iterable[Path], folder: Path) -> tuple[FileEntry, ...]:
        made = []
        for path in paths:
            made.append(manifest.file_entry(path, folder))
            _check_hash(path, made[-1].sha256)
            progress.advance(1)
        return tuple(made)

    adapters, apart = (
        tuple(
            manifest.Adapter(a.folder.resolve().name, a.scale, entries(a.files, a.folder))
            for a in group
        )
        for group in (source.adapters, source.apart)
    )
    files = entries(paths, folder)
    return manifest.Source(source.id, source.revision, files, adapters, apart)


def _files(folder: Path) -> tuple[Path, list[Path]]:
    """Return the folder of a checkpoint, or of a GGUF, and the files that count."""
    if folder.is_file():
        return folder.parent, [folder]
    names = ("config.json", "tokenizer.json", "tokenizer.model")
    settings = [path for name in names if (path := folder / name).is_file()]
    return folder, [*settings, *weight_files(folder)]


def _check_hash(path: Path, found: str) -> None:
    """Raise BadInput, and delete the download, where it is not what the hub has."""
    if hub.expected_sha256(path) in (None, found):
        return
    path.resolve().unlink()
    path.unlink()
    raise BadInput(f"the download of {path.name} was damaged", "run it again: it is fetched anew")


def describe(work: Conversion, artifacts: Sequence[Artifact]) -> Manifest:
    """Return the manifest of the bundle that holds ``artifacts``."""
    source = work.checkpoint.source
    return Manifest(
        name=source.id.rpartition("/")[2],
        source=work.source,
        tier=work.plan.tier_name,
        board=work.plan.board,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=versions(),
        artifacts=tuple(artifacts),
        licence=source.recipe.licence if source.recipe else None,
        reference=next(iter(_entries(work, compact.FILE_NAME)), None),
        extras=_entries(work, IMPORTANCE),
    )


def _entries(work: Conversion, name: str) -> tuple[FileEntry, ...]:
    """Return the entry of a file that a maker may have written into the bundle."""
    path = work.folder / name
    return (manifest.file_entry(path, work.folder),) if path.is_file() else ()


def artifact(
    work: Conversion,
    plan: ArtifactPlan | OnnxPlan,
    files: Sequence[Path],
    certificate: Certificate | None,
    adapters: Sequence[Path] = (),
) -> Artifact:
    """Return the entry of an artifact; the hashes are read back from the disk."""
    return Artifact(
        format=plan.format,
        quantisation=plan.quantisation.name,
        files=tuple(manifest.file_entry(path, work.folder) for path in (*files, *adapters)),
        architecture=work.plan.model.architecture,
        parameters=work.plan.model.parameters,
        context=plan.context,
        bits_per_weight=round(plan.bits_per_weight, 3),
        memory=plan.memory.lines,
        speed=plan.speeds,
        certificate=certificate,
        kv_type=plan.load.kv_type,
        micro_batch=plan.load.micro_batch,
        adapters=tuple(path.name for path in adapters),
    )


def graph_first(folder: Path) -> list[Path]:
    """Return the files of an ONNX folder in the manifest's order."""
    files = sorted(folder.rglob("*"), key=lambda path: (path.suffix != ".onnx", path))
    return [path for path in files if path.is_file()]


def versions() -> dict[str, str]:
    """Return the versions of pitool and of what it makes artifacts with."""
    packages = ("llama-cpp-python", "gguf", "numpy", "onnx", "onnxruntime")
    found = {name: importlib.metadata.version(name) for name in packages}
    return {"pitool": pitool.__version__, "python": platform.python_version(), **found}

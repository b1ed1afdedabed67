"""The bundle of a technique's artifact: so that what the lab found best can be taken to a board."""

from __future__ import annotations

import datetime
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from pitool.catalog import manifest
from pitool.catalog.bundles import Bundle
from pitool.catalog.manifest import Artifact, Certificate, FileEntry, Manifest, Source
from pitool.catalog.tiers import tiers
from pitool.checkpoint.source import Checkpoint
from pitool.convert.describe import graph_first, versions
from pitool.convert.gguf.model import model_shape
from pitool.convert.staging import Staging
from pitool.convert.techniques.assemble import Assembled
from pitool.convert.techniques.base import Technique
from pitool.convert.techniques.footprint import CONTEXT, footprint
from pitool.convert.verify import Reference
from pitool.errors import BadInput
from pitool.quality import compact


@dataclass(frozen=True, slots=True)
class Origin:
    """What an artifact was made of and held against; ``tier`` None: the smallest that it fits."""

    checkpoint: Checkpoint
    source: Source
    reference: Reference
    tier: str | None = None


def write_bundle(
    target: Path,
    technique: Technique,
    assembled: Assembled,
    certificate: Certificate,
    origin: Origin,
    *,
    replace: bool,
) -> Bundle:
    """Put an artifact into a bundle at ``target``; BadInput where no kernel runs it."""
    if assembled.kernel is None:
        raise BadInput(
            f"no runtime has a kernel for {technique.name}", "take a technique that one runs"
        )
    checkpoint = origin.checkpoint
    with Staging(target, replace=replace) as staging:
        files = _place(assembled.made.entry, staging.folder / _name(technique, assembled))
        compact.write(staging.folder / compact.FILE_NAME, origin.reference.compact)
        entries = tuple(manifest.file_entry(path, staging.folder) for path in files)
        artifact = _artifact(technique, assembled, entries, checkpoint, certificate)
        needed = sum(line.bytes for line in artifact.memory)
        recipe = checkpoint.source.recipe
        made = Manifest(
            name=checkpoint.source.id.rpartition("/")[2],
            source=origin.source,
            tier=origin.tier or smallest_tier(needed),
            board=None,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            versions=versions(),
            artifacts=(artifact,),
            licence=recipe.licence if recipe else None,
            reference=manifest.file_entry(staging.folder / compact.FILE_NAME, staging.folder),
        )
        manifest.write(staging.folder, made)
        staging.publish()
    return Bundle(target, made)


def smallest_tier(needed: int) -> str:
    """Return the smallest tier that has so many bytes for a model, else the largest of all."""
    known = tiers()
    return next((name for name, tier in known.items() if tier.model_bytes >= needed), [*known][-1])


def _name(technique: Technique, assembled: Assembled) -> str:
    if assembled.made.format == "onnx":
        return f"onnx-{technique.name}"
    return f"{technique.name}.gguf"


def _place(entry: Path, target: Path) -> list[Path]:
    """Put a file or folder at ``target`` without doubling it where the disk allows; list files."""
    if entry.is_dir():
        shutil.copytree(entry, target, copy_function=_link)
        return graph_first(target)
    _link(str(entry), str(target))
    return [target]


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)
    return target


def _artifact(
    technique: Technique,
    assembled: Assembled,
    files: tuple[FileEntry, ...],
    checkpoint: Checkpoint,
    certificate: Certificate,
) -> Artifact:
    shape = model_shape(checkpoint.config)
    return Artifact(
        format=assembled.made.format,
        quantisation=technique.name.upper(),
        files=files,
        architecture=shape.architecture,
        parameters=assembled.parameters,
        context=min(CONTEXT, shape.context),
        bits_per_weight=round(assembled.bits_per_weight, 3),
        memory=footprint(assembled.made, shape).memory.lines,
        speed=(),
        certificate=certificate,
    )

"""The bundle of a technique's artifact: so that what the lab found best can be taken to a board."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pitool.catalog import manifest
from pitool.catalog.bundles import Bundle
from pitool.catalog.manifest import Artifact, Certificate, Source
from pitool.catalog.staging import Staging
from pitool.catalog.tiers import tiers
from pitool.checkpoint.source import Checkpoint
from pitool.convert.describe import describe, graph_first
from pitool.convert.gguf.model import model_shape
from pitool.convert.reference import Reference
from pitool.convert.techniques.assemble import CONTEXT, Assembled, footprint
from pitool.convert.techniques.base import Technique
from pitool.convert.tokens import Tokens
from pitool.errors import BadInput
from pitool.planning.entries import artifact
from pitool.planning.formats import GGUF
from pitool.planning.memory import Load
from pitool.quality import compact
from pitool.quality.divergence import WINDOW


@dataclass(frozen=True, slots=True)
class Provenance:
    """What an artifact was made of and held against, and how it is tokenized.

    ``tier`` None: the smallest that it fits.
    """

    checkpoint: Checkpoint
    source: Source
    reference: Reference
    tokens: Tokens
    tier: str | None = None


def write_bundle(
    target: Path,
    technique: Technique,
    assembled: Assembled,
    certificate: Certificate,
    provenance: Provenance,
    *,
    replace: bool,
) -> Bundle:
    """Put an artifact into a bundle at ``target``.

    BadInput where no kernel runs it, PitoolError where its tokens are not the tokenizer's.
    """
    if assembled.kernel is None:
        raise BadInput(
            f"no runtime has a kernel for {technique.name}",
            "choose a technique that a runtime has a kernel for",
        )
    checkpoint = provenance.checkpoint
    with Staging(target, replace=replace) as staging:
        files = _place(assembled.made.entry, staging.folder / _name(technique, assembled))
        compact.write(staging.folder / compact.FILE_NAME, provenance.reference.compact)
        entry = _artifact(technique, assembled, staging.folder, files, provenance, certificate)
        tier = provenance.tier or smallest_tier(sum(line.bytes for line in entry.memory))
        made = describe(staging.folder, checkpoint, provenance.source, [entry], tier=tier)
        manifest.write(staging.folder, made)
        staging.publish()
    return Bundle(target, made)


def smallest_tier(needed: int) -> str:
    """Return the smallest tier that has so many bytes for a model, else the largest of all."""
    known = tiers()
    return next((name for name, tier in known.items() if tier.model_bytes >= needed), [*known][-1])


def _name(technique: Technique, assembled: Assembled) -> str:
    if assembled.made.entry.is_dir():
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
    folder: Path,
    files: Sequence[Path],
    provenance: Provenance,
    certificate: Certificate,
) -> Artifact:
    model, tokens = model_shape(provenance.checkpoint.config), provenance.tokens
    entry = assembled.made.entry
    with tokens.open(entry, WINDOW):
        files = [*files, *tokens.write(folder, entry)]
    load = Load(GGUF.context(model, None, CONTEXT))
    return artifact(
        folder,
        files,
        model,
        certificate,
        format_name=assembled.made.format,
        quantisation=technique.name.upper(),
        context=load.context,
        bits_per_weight=assembled.bits_per_weight,
        memory=footprint(assembled.made, model, load.context).memory,
        load=load,
        tokenization=tokens.of(entry),
    )

"""The way from a source to a bundle.

``convert`` is the spine. Everything is written into a staging folder next to the target, which
takes the target's name only when it is complete. Each kind of artifact is one row of ``MAKERS``.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from pitool.catalog import manifest
from pitool.catalog.bundles import Bundle
from pitool.catalog.staging import Staging, check_disk
from pitool.checkpoint.source import Checkpoint, Source, open_checkpoint
from pitool.convert import cache
from pitool.convert.conversion import Conversion, Job, Maker
from pitool.convert.describe import describe
from pitool.convert.download import download
from pitool.convert.engines import Engines
from pitool.convert.gguf import adapter
from pitool.convert.gguf import artifacts as gguf
from pitool.convert.onnx import artifacts as onnx
from pitool.convert.plan import ConvertPlan
from pitool.convert.sources import hash_sources
from pitool.convert.techniques import artifacts as techniques
from pitool.convert.techniques.planned import TechniquePlan
from pitool.convert.tokens import Tokens
from pitool.convert.trim.gguf import copy_rows
from pitool.convert.trim.kept import write_kept
from pitool.convert.verify import Certifier
from pitool.planning.formats.gguf import GgufPlan
from pitool.planning.formats.onnx import OnnxPlan
from pitool.report.progress import Progress

MAKERS: dict[type, Maker] = {
    GgufPlan: gguf.MAKER,
    OnnxPlan: onnx.MAKER,
    TechniquePlan: techniques.MAKER,
}


def convert(source: Source, job: Job, engines: Engines, progress: Progress) -> Bundle:
    """Return the bundle made from a source by the plan; errors leave nothing behind."""
    for_gguf = bool(job.plan.of(GgufPlan))
    checkpoint = open_checkpoint(download(source, progress, for_gguf=for_gguf))
    makers = makers_of(job.plan)
    check_room(makers, checkpoint, job)
    copy_rows(checkpoint, progress)
    with Staging(job.target, replace=job.replace) as staging:
        hashed = hash_sources(checkpoint.whole or checkpoint, progress, job.plan)
        tokens = tokens_of(checkpoint, job, staging.folder, engines)
        with certifier_of(checkpoint, job, staging.folder, tokens, progress) as certifier:
            work = Conversion(
                checkpoint, hashed, job, staging.folder, engines, progress, certifier, tokens
            )
            artifacts = [artifact for maker in makers for artifact in maker.make(work)]
        write_kept(work.folder, checkpoint)
        made = describe(
            work.folder,
            checkpoint,
            work.source,
            artifacts,
            tier=work.plan.tier_name,
            board=work.plan.board,
        )
        bundle = Bundle(job.target, made)
        manifest.write(staging.folder, made)
        staging.publish()
    return bundle


def makers_of(plan: ConvertPlan) -> list[Maker]:
    """Return the makers of a plan's artifacts, each once, in the plan's order."""
    return [MAKERS[kind] for kind in dict.fromkeys(map(type, plan.artifacts))]


def check_room(makers: list[Maker], checkpoint: Checkpoint, job: Job) -> None:
    """Raise DoesNotFit when the disks of the target and of the cache have too little space."""
    needs = []
    for maker in makers:
        made, cached = maker.disk_bytes(checkpoint, job.plan)
        needs += [(job.target.parent, made), (cache.folder(), cached)]
    check_disk(needs)


def tokens_of(checkpoint: Checkpoint, job: Job, folder: Path, engines: Engines) -> Tokens:
    """Return what decides how the artifacts are tokenized, and loads them so."""
    paths = adapter.paths(checkpoint.source.apart, folder)
    return Tokens(checkpoint, job.plan.model.vocabulary, engines.open_with, paths)


def certifier_of(
    checkpoint: Checkpoint, job: Job, folder: Path, tokens: Tokens, progress: Progress
) -> Certifier:
    """Return what compares artifacts with the checkpoint, its separate adapters included."""
    source = checkpoint.source
    if source.apart:
        checkpoint = open_checkpoint(replace(source, adapters=source.adapters + source.apart))
    exact = partial(tokens.open, exact=True)
    return Certifier(checkpoint, job.plan.model, folder, tokens.open, exact, progress)

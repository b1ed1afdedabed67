"""The way from a checkpoint to a bundle.

``convert`` is the spine. Everything is written into a staging folder beside the target and
appears under its name whole or not at all. A kind of artifact is one row of ``MAKERS``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pitool.catalog import manifest
from pitool.catalog.bundles import Bundle
from pitool.checkpoint import hub
from pitool.checkpoint.config import read_config
from pitool.checkpoint.source import Checkpoint, Source, open_checkpoint
from pitool.convert import cache
from pitool.convert.certifier import Certifier
from pitool.convert.describe import describe, hash_sources
from pitool.convert.gguf import adapter
from pitool.convert.gguf import artifacts as gguf
from pitool.convert.gguf.origins import find_origin
from pitool.convert.onnx import artifacts as onnx
from pitool.convert.staging import Staging, check_disk
from pitool.convert.techniques import artifacts as techniques
from pitool.convert.techniques.planned import TechniquePlan
from pitool.convert.work import Engines, Job, Maker, Work
from pitool.planning.plan import ArtifactPlan
from pitool.planning.plan_onnx import OnnxPlan
from pitool.report.progress import Progress

MAKERS: dict[type, Maker] = {
    ArtifactPlan: gguf.MAKER,
    OnnxPlan: onnx.MAKER,
    TechniquePlan: techniques.MAKER,
}


def convert(source: Source, job: Job, engines: Engines, progress: Progress) -> Bundle:
    """Return the bundle made from a source by the plan; errors leave nothing behind."""
    gguf_too = bool(job.plan.of(ArtifactPlan))
    checkpoint = open_checkpoint(download(source, progress, gguf_too=gguf_too))
    makers = [MAKERS[kind] for kind in dict.fromkeys(map(type, job.plan.artifacts))]
    sizes = [maker.disk_bytes(checkpoint, job.plan) for maker in makers]
    check_disk(
        [
            *((job.target.parent, made) for made, _ in sizes),
            *((cache.folder(), cached) for _, cached in sizes),
        ]
    )
    with Staging(job.target, replace=job.replace) as staging:
        hashed = hash_sources(checkpoint, progress)
        certifier = _certifier(checkpoint, job, staging.folder, engines, progress)
        work = Work(checkpoint, hashed, job, staging.folder, engines, progress, certifier)
        artifacts = [artifact for maker in makers for artifact in maker.make(work)]
        made = describe(
            work.folder,
            checkpoint,
            work.source,
            artifacts,
            tier=work.plan.tier_name,
            board=work.plan.board,
        )
        manifest.write(staging.folder, made)
        staging.publish()
    return Bundle(job.target, made)


def _certifier(
    checkpoint: Checkpoint, job: Job, folder: Path, engines: Engines, progress: Progress
) -> Certifier:
    """Return what compares artifacts with the checkpoint, adapters that stay apart included."""
    source, open_engine = checkpoint.source, engines.open
    if source.apart:
        open_engine = engines.adapted(adapter.paths(source.apart, folder))
        checkpoint = open_checkpoint(replace(source, adapters=source.adapters + source.apart))
    return Certifier(checkpoint, job.plan.model, folder, open_engine, progress)


def download(source: Source, progress: Progress, *, gguf_too: bool = True) -> Source:
    """Return the source with all its files on this machine; only the hub's have a revision.

    Weights that the disk has no room for are not fetched, nor those that cannot be converted to
    GGUF where that is wanted.
    """
    if source.revision is None:
        return source
    source = source if source.folder else hub.fetch_settings(source)
    headers = hub.read_headers(source)
    if headers.missing_bytes:
        assert source.folder
        if gguf_too:
            config = read_config(source.folder).with_tensors(headers.tensors)
            find_origin(Checkpoint(source, source.folder, config, headers.tensors)).check()
        check_disk([(hub.cache_folder(), headers.missing_bytes)])
        progress.stage(f"downloading {source.id}", headers.missing_bytes, bytes_=True)
    return hub.fetch_weights(source, progress.advance)

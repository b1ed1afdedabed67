"""The way from a checkpoint to a bundle.

``convert`` is the spine; each step below it is one function. Everything is written into a
staging folder beside the target and appears under its name whole or not at all.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from dataclasses import dataclass
from pathlib import Path

import pitool
from pitool.checkpoint import hub
from pitool.checkpoint.source import Checkpoint, Source, open_checkpoint
from pitool.checkpoint.tensors import weight_files
from pitool.convert.gguf.families import find_family
from pitool.convert.gguf.quantise import quantise
from pitool.convert.gguf.vocabulary import read_vocabulary
from pitool.convert.gguf.writer import match_tensors, write_gguf
from pitool.convert.plan import ArtifactPlan, ConvertPlan
from pitool.convert.progress import Progress
from pitool.convert.staging import Staging, check_disk
from pitool.convert.verify import OpenEngine, certify, make_reference, tokens_to_compare
from pitool.spec import manifest
from pitool.spec.bundles import Bundle
from pitool.spec.formats import QUANTISATIONS, Quantisation
from pitool.spec.manifest import Artifact, Certificate, Manifest

INTERMEDIATE = "intermediate.gguf"


@dataclass(frozen=True, slots=True)
class Job:
    """What a conversion is told: the plan, where the bundle goes, and how."""

    plan: ConvertPlan
    target: Path
    replace: bool
    threads: int


def convert(source: Source, job: Job, open_engine: OpenEngine, progress: Progress) -> Bundle:
    """Return the bundle made from a source by the plan; errors leave nothing behind."""
    checkpoint = open_checkpoint(download(source))
    check_disk(job.target, disk_bytes(checkpoint, job.plan))
    with Staging(job.target, replace=job.replace) as staging:
        exact = write_exact(checkpoint, job.plan, staging.folder, progress)
        paths = quantise_all(checkpoint, exact, job, staging.folder, progress)
        certificates = verify_all(checkpoint, exact, paths, job.plan, open_engine, progress)
        drop_intermediate(exact, paths)
        made = describe(checkpoint, job.plan, paths, certificates, staging.folder, progress)
        manifest.write(staging.folder, made)
        staging.publish()
    return Bundle(job.target, made)


def download(source: Source) -> Source:
    """Return the source with all its files on this machine; only the hub's have a revision."""
    return source if source.revision is None else hub.fetch_weights(source)


def native_kind(checkpoint: Checkpoint) -> Quantisation:
    """Return the float type that holds the checkpoint's matrices without loss."""
    kinds = {t.kind for t in checkpoint.tensors.values() if len(t.shape) > 1}
    return QUANTISATIONS[kinds.pop() if len(kinds) == 1 else "F32"]


def exact_kinds(checkpoint: Checkpoint, plan: ConvertPlan) -> list[Quantisation]:
    """Return the float types to write: first what is quantised from, then those asked for."""
    asked = [a.quantisation for a in plan.artifacts if not a.quantisation.quantised]
    needed = any(a.quantisation.quantised for a in plan.artifacts)
    return list(dict.fromkeys([native_kind(checkpoint), *asked])) if needed else asked


def disk_bytes(checkpoint: Checkpoint, plan: ConvertPlan) -> int:
    """Return the most bytes that lie on the disk during the conversion."""
    weights = plan.model.parameters
    exact = sum(weights * (4 if k.name == "F32" else 2) for k in exact_kinds(checkpoint, plan))
    return exact + sum(a.bytes for a in plan.artifacts if a.quantisation.quantised)


def write_exact(
    checkpoint: Checkpoint, plan: ConvertPlan, folder: Path, progress: Progress
) -> dict[Quantisation, Path]:
    """Write the GGUFs in float types, straight from the checkpoint; return their paths."""
    family = find_family(checkpoint.config)
    match_tensors(checkpoint, family.wanted(checkpoint.config))
    vocabulary = read_vocabulary(checkpoint.folder, plan.model.vocabulary)
    asked = [a.quantisation for a in plan.artifacts]
    written = {}
    for kind in exact_kinds(checkpoint, plan):
        path = folder / (file_name(checkpoint, kind) if kind in asked else INTERMEDIATE)
        size = plan.model.parameters * (4 if kind.name == "F32" else 2)
        progress.stage(f"writing {kind.name}", size, bytes_=True)
        write_gguf(path, checkpoint, family, plan.model, vocabulary, kind, progress.advance)
        written[kind] = path
    return written


def quantise_all(
    checkpoint: Checkpoint,
    exact: dict[Quantisation, Path],
    job: Job,
    folder: Path,
    progress: Progress,
) -> dict[Quantisation, Path]:
    """Quantise the first float GGUF to every type asked for; return all artifacts' paths."""
    source = next(iter(exact.values()))
    paths = {}
    for artifact in job.plan.artifacts:
        kind = artifact.quantisation
        paths[kind] = exact.get(kind) or folder / file_name(checkpoint, kind)
        if not kind.quantised:
            continue
        progress.stage(f"quantising to {kind.name}", len(artifact.tensors))
        done = 0

        def on_tensor(begun: int, _all: int) -> None:
            nonlocal done
            progress.advance(begun - done)
            done = begun

        quantise(source, paths[kind], kind, job.threads, on_tensor)
    return paths


def verify_all(
    checkpoint: Checkpoint,
    exact: dict[Quantisation, Path],
    paths: dict[Quantisation, Path],
    plan: ConvertPlan,
    open_engine: OpenEngine,
    progress: Progress,
) -> dict[Quantisation, Certificate]:
    """Compare every file with the checkpoint's own forward pass; return the certificates."""
    tokens = tokens_to_compare(plan.model.parameters)
    everything = {**exact, **paths}
    certificates = {}
    reference = None
    for kind, path in everything.items():
        with open_engine(path, tokens) as engine:
            if reference is None:
                progress.stage("computing the reference", plan.model.layers)
                reference = make_reference(
                    checkpoint, engine, tokens, lambda _done, _all: progress.advance(1)
                )
            progress.stage(f"verifying {kind.name}", 1)
            certificates[kind] = certify(engine, reference, kind, checkpoint.source.id)
            progress.advance(1)
    return certificates


def drop_intermediate(exact: dict[Quantisation, Path], paths: dict[Quantisation, Path]) -> None:
    """Delete the float GGUF that nobody asked for."""
    for kind, path in exact.items():
        if kind not in paths:
            path.unlink()


def describe(
    checkpoint: Checkpoint,
    plan: ConvertPlan,
    paths: dict[Quantisation, Path],
    certificates: dict[Quantisation, Certificate],
    folder: Path,
    progress: Progress,
) -> Manifest:
    """Return the manifest of what lies in ``folder``; hashes are read back from the disk."""
    weights = weight_files(checkpoint.folder)
    settings = [checkpoint.folder / "config.json"]
    tokenizer = [checkpoint.folder / n for n in ("tokenizer.json", "tokenizer.model")]
    sources = [*settings, *(p for p in tokenizer if p.is_file()), *weights]
    progress.stage("hashing", len(sources) + len(paths))
    files = []
    for path in sources:
        files.append(manifest.file_entry(path, checkpoint.folder))
        progress.advance(1)
    artifacts = []
    for artifact in plan.artifacts:
        path = paths[artifact.quantisation]
        certificate = certificates[artifact.quantisation]
        artifacts.append(_artifact(plan, artifact, path, folder, certificate))
        progress.advance(1)
    recipe = checkpoint.source.recipe
    return Manifest(
        name=checkpoint.source.id.rpartition("/")[2],
        source=manifest.Source(checkpoint.source.id, checkpoint.source.revision, tuple(files)),
        tier=plan.tier_name,
        board=None,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=_versions(),
        artifacts=tuple(artifacts),
        licence=recipe.licence if recipe else None,
    )


def _artifact(
    plan: ConvertPlan,
    artifact: ArtifactPlan,
    path: Path,
    folder: Path,
    certificate: Certificate,
) -> Artifact:
    return Artifact(
        format="gguf",
        quantisation=artifact.quantisation.name,
        files=(manifest.file_entry(path, folder),),
        architecture=plan.model.architecture,
        parameters=plan.model.parameters,
        context=artifact.context,
        bits_per_weight=round(artifact.bits_per_weight, 3),
        memory=artifact.memory.lines,
        speed=artifact.speeds,
        certificate=certificate,
    )


def file_name(checkpoint: Checkpoint, kind: Quantisation) -> str:
    """Return the name of an artifact's file."""
    return f"{checkpoint.source.id.rpartition('/')[2]}-{kind.name}.gguf"


def _versions() -> dict[str, str]:
    packages = ("llama-cpp-python", "gguf", "numpy")
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {"pitool": pitool.__version__, "python": platform.python_version(), **versions}

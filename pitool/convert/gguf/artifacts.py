"""The GGUF artifacts of a bundle: float files, quantised files, certificates.

All are made from one exact GGUF, the intermediate; where nobody asked for it, it lies in the
cache, so that the next conversion of the same checkpoint begins with it. A GGUF that is converted
is the intermediate itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pitool.catalog.manifest import Artifact, Certificate
from pitool.catalog.tensor_types import Quantisation, TensorType
from pitool.checkpoint.config import Config
from pitool.checkpoint.source import Checkpoint, Source
from pitool.convert import cache
from pitool.convert.describe import artifact
from pitool.convert.gguf import adapter, losses, sensitivity
from pitool.convert.gguf.calibrate import Calibration, calibrate
from pitool.convert.gguf.fitting import FIT
from pitool.convert.gguf.importance import NONE
from pitool.convert.gguf.model import find_model
from pitool.convert.gguf.modelfile import modelfile
from pitool.convert.gguf.origins import Chat, Origin, find_origin
from pitool.convert.plan import ConvertPlan
from pitool.convert.progress import counting
from pitool.convert.verify import check_worst
from pitool.convert.work import Maker, Work
from pitool.planning.plan import ArtifactPlan

Paths = dict[Quantisation, Path]


def make(work: Work) -> list[Artifact]:
    """Write all GGUFs of the plan into the bundle, verify them, and return their entries."""
    origin = find_origin(work.checkpoint)
    exact = write_exact(work, origin)
    adapters = write_adapters(work)
    planned, paths = quantise_all(work, origin, exact)
    certificates = verify_all(work, exact, paths)
    check_worst({kind.name: certificates[kind] for kind in paths}, work.job.worst_kl)
    work.progress.stage("hashing", len(paths))
    made = []
    for plan in planned:
        kind = plan.quantisation
        files = [paths[kind], write_modelfile(paths[kind], plan.context, origin.chat, adapters)]
        made.append(artifact(work, plan, files, certificates[kind], adapters))
        work.progress.advance(1)
    return made


def exact_kinds(origin: Origin, plan: ConvertPlan) -> list[Quantisation]:
    """Return the types to write straight: first what is quantised from, then those asked for."""
    wanted = [a.quantisation for a in plan.of(ArtifactPlan)]
    asked = [kind for kind in wanted if not kind.quantised or kind == origin.kind]
    needed = len(asked) < len(wanted)
    return list(dict.fromkeys([origin.kind, *asked])) if needed else asked


def disk_bytes(checkpoint: Checkpoint, plan: ConvertPlan) -> tuple[int, int]:
    """Return the bytes that the artifacts take, and those of the intermediate in the cache."""
    origin, made = find_origin(checkpoint), plan.of(ArtifactPlan)
    asked = {a.quantisation for a in made}
    between = [kind for kind in exact_kinds(origin, plan) if kind not in asked]
    cached = sum(_float_bytes(plan, kind) for kind in between) if origin.file is None else 0
    return sum(a.bytes for a in made), cached


def header_of(source: Source, config: Config) -> int:
    """Return the bytes of a GGUF before its tensors, from the settings and vocabulary alone."""
    assert source.folder
    return find_origin(Checkpoint(source, source.folder, config, {})).header_bytes()


def write_exact(work: Work, origin: Origin) -> Paths:
    """Write the GGUFs that lose nothing, straight from the origin; return their paths."""
    origin.check()
    asked = [a.quantisation for a in work.plan.of(ArtifactPlan)]
    written = {}
    for kind in exact_kinds(origin, work.plan):
        if kind in asked:
            written[kind] = work.folder / work.file_name(f"{kind.name}.gguf")
            origin.write(kind, written[kind], work.progress)
        else:
            written[kind] = origin.file or cache.get(
                cache.key(replace(work.source, apart=()), kind.name),
                lambda path, kind=kind: origin.write(kind, path, work.progress),  # type: ignore[misc]
            )
    return written


def write_adapters(work: Work) -> list[Path]:
    """Write the LoRAs that stay files of their own; return their paths."""
    model = find_model(work.checkpoint.config)
    apart = work.checkpoint.source.apart
    made = adapter.paths(apart, work.folder)
    for path, one in zip(made, apart, strict=True):
        adapter.write_adapter(path, work.checkpoint, model, one)
    return made


def quantise_all(work: Work, origin: Origin, exact: Paths) -> tuple[list[ArtifactPlan], Paths]:
    """Quantise the first exact GGUF to every type asked for; return all artifacts and their paths.

    The plan of a GGUF of a given size is that of the types that were measured to be best.
    """
    planned, paths = list(work.plan.of(ArtifactPlan)), {}
    source = next(iter(exact.values()))
    calibrated = calibrate(work, source) if _calibrates(work, planned) else None
    matrix = calibrated.path if calibrated else None
    for i, plan in enumerate(planned):
        kind, types = plan.quantisation, None
        paths[kind] = exact.get(kind) or work.folder / work.file_name(f"{kind.name}.gguf")
        if kind is FIT:
            types, planned[i] = fit(work, origin.kind, source, calibrated)
        if kind not in exact:
            work.progress.stage(f"quantising to {kind.name}", len(plan.tensors))
            origin.quantise(
                source, paths[kind], kind, work.job.threads, counting(work.progress),
                types=types, importance=matrix,
            )  # fmt: skip
    return planned, paths


def _calibrates(work: Work, planned: Sequence[ArtifactPlan]) -> bool:
    """Tell whether an importance matrix is wanted by a type that it changes."""
    changed = any(p.quantisation.quantised and p.quantisation.base != "Q8_0" for p in planned)
    return changed and work.job.calibration != NONE


def fit(
    work: Work, kind: Quantisation, exact: Path, calibrated: Calibration | None
) -> tuple[dict[str, TensorType], ArtifactPlan]:
    """Return the types that lose least within the plan's bytes, and the plan with these.

    ``exact``: the GGUF in the float type ``kind``.
    """
    fitting, progress = work.plan.fitting, work.progress
    assert fitting
    progress.stage("measuring rounding errors", len(work.plan.model.tensors))
    matrix = calibrated.matrix if calibrated else None
    found = losses.measure_losses(exact, matrix, progress.advance)
    if calibrated and calibrated.windows:
        progress.stage("measuring sensitivity", len(sensitivity.groups(list(found))))
        weights = sensitivity.measure(
            exact, kind, found, calibrated.windows[: sensitivity.WINDOWS],
            work.engines.open, work.folder, work.job.threads, progress.advance,
        )  # fmt: skip
        found = losses.weigh(found, weights)
    types, row = fitting.solve(exact, found)
    return types, row.artifact


def verify_all(work: Work, exact: Paths, paths: Paths) -> dict[Quantisation, Certificate]:
    """Compare every file with the checkpoint's own forward pass; return the certificates."""
    return {kind: work.certifier.certify(path, kind) for kind, path in {**exact, **paths}.items()}


def write_modelfile(path: Path, context: int, chat: Chat, adapters: Sequence[Path]) -> Path:
    """Write the Modelfile beside a GGUF and its LoRAs; return its path."""
    names = [a.name for a in adapters]
    target = path.with_suffix(".Modelfile")
    text = modelfile(path.name, context, chat.template, chat.end, names)
    target.write_text(text, encoding="utf-8")
    return target


def _float_bytes(plan: ConvertPlan, kind: Quantisation) -> int:
    return plan.model.parameters * (4 if kind.name == "F32" else 2)


MAKER = Maker(make, disk_bytes)

"""The GGUF artifacts of a bundle: float files, quantised files, certificates.

All are made from one float GGUF, the intermediate; where nobody asked for it, it lies in the
cache, so that the next conversion of the same checkpoint begins with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pitool.checkpoint.config import read_config
from pitool.checkpoint.source import Checkpoint, Source
from pitool.convert import cache
from pitool.convert.describe import artifact
from pitool.convert.gguf import adapter, fallback, losses, sensitivity
from pitool.convert.gguf.calibrate import Calibration, calibrate
from pitool.convert.gguf.families import find_family
from pitool.convert.gguf.families.base import Family
from pitool.convert.gguf.fitting import FIT
from pitool.convert.gguf.importance import NONE
from pitool.convert.gguf.modelfile import modelfile
from pitool.convert.gguf.vocabulary import Vocabulary, read_vocabulary
from pitool.convert.gguf.writer import header_bytes, match_tensors, write_gguf
from pitool.convert.plan import ConvertPlan
from pitool.convert.verify import check_worst
from pitool.convert.work import Maker, Work
from pitool.errors import BadInput
from pitool.spec.formats import QUANTISATIONS, Quantisation, TensorType
from pitool.spec.manifest import Artifact, Certificate
from pitool.spec.plan import ArtifactPlan

FORMAT = "gguf"
Paths = dict[Quantisation, Path]


def make(work: Work) -> list[Artifact]:
    """Write all GGUFs of the plan into the bundle, verify them, and return their entries."""
    family = find_family(work.checkpoint.config)
    vocabulary = _vocabulary(work.checkpoint, family, work.plan)
    exact = write_exact(work, family, vocabulary)
    adapters = write_adapters(work, family)
    planned, paths = quantise_all(work, exact)
    certificates = verify_all(work, exact, paths)
    check_worst({kind.name: certificates[kind] for kind in paths}, work.job.worst_kl)
    work.progress.stage("hashing", len(paths))
    made = []
    for plan in planned:
        kind = plan.quantisation
        files = [paths[kind], write_modelfile(paths[kind], plan.context, vocabulary, adapters)]
        made.append(artifact(work, plan, files, certificates[kind], adapters))
        work.progress.advance(1)
    return made


def native_kind(checkpoint: Checkpoint) -> Quantisation:
    """Return the float type that holds the checkpoint's matrices without loss."""
    kinds = {t.kind for t in checkpoint.tensors.values() if len(t.shape) > 1}
    return QUANTISATIONS[kinds.pop() if len(kinds) == 1 else "F32"]


def exact_kinds(checkpoint: Checkpoint, plan: ConvertPlan) -> list[Quantisation]:
    """Return the float types to write: first what is quantised from, then those asked for."""
    wanted = [a.quantisation for a in plan.of(ArtifactPlan)]
    asked = [kind for kind in wanted if not kind.quantised]
    needed = len(asked) < len(wanted)
    return list(dict.fromkeys([native_kind(checkpoint), *asked])) if needed else asked


def disk_bytes(checkpoint: Checkpoint, plan: ConvertPlan) -> tuple[int, int]:
    """Return the bytes that the artifacts take, and those of the intermediate in the cache."""
    made = plan.of(ArtifactPlan)
    asked = {a.quantisation for a in made}
    between = [kind for kind in exact_kinds(checkpoint, plan) if kind not in asked]
    return sum(a.bytes for a in made), sum(_float_bytes(plan, kind) for kind in between)


def header_of(source: Source, plan: ConvertPlan) -> int:
    """Return the bytes of a GGUF before its tensors, from the settings and vocabulary alone."""
    assert source.folder
    config = read_config(source.folder)
    checkpoint = Checkpoint(source, source.folder, config, {})
    family = find_family(config)
    vocabulary = _vocabulary(checkpoint, family, plan)
    return header_bytes(checkpoint, family, plan.model, vocabulary)


def _vocabulary(checkpoint: Checkpoint, family: Family, plan: ConvertPlan) -> Vocabulary:
    foreign = isinstance(family, fallback.Foreign)
    read = fallback.vocabulary if foreign else read_vocabulary
    return read(checkpoint.folder, plan.model.vocabulary)


def check_tensors(checkpoint: Checkpoint) -> None:
    """Raise BadInput when a tensor that a GGUF needs is missing or has another shape."""
    match_tensors(checkpoint, find_family(checkpoint.config).wanted(checkpoint.config))


def write_exact(work: Work, family: Family, vocabulary: Vocabulary) -> Paths:
    """Write the GGUFs in float types, straight from the checkpoint; return their paths."""
    checkpoint, plan = work.checkpoint, work.plan
    foreign = isinstance(family, fallback.Foreign)
    if foreign and (checkpoint.source.adapters or checkpoint.source.apart):
        raise BadInput(
            f"llama.cpp's own converter, which a {family.architecture!r} model needs, merges no"
            " LoRA",
            "merge it with PEFT first, and convert the merged model",
        )
    check_tensors(checkpoint)
    asked = [a.quantisation for a in work.plan.of(ArtifactPlan)]

    def write(kind: Quantisation, path: Path) -> None:
        if foreign:
            work.progress.stage(f"writing {kind.name} with llama.cpp's own converter", 1)
            fallback.convert(checkpoint.folder, path, kind)
            return
        work.progress.stage(f"writing {kind.name}", _float_bytes(plan, kind), bytes_=True)
        advance = work.progress.advance
        write_gguf(path, checkpoint, family, plan.model, vocabulary, kind, advance)

    written = {}
    for kind in exact_kinds(checkpoint, plan):
        if kind in asked:
            written[kind] = work.folder / work.file_name(f"{kind.name}.gguf")
            write(kind, written[kind])
        else:
            written[kind] = cache.get(
                cache.key(replace(work.source, apart=()), kind.name),
                lambda path, kind=kind: write(kind, path),  # type: ignore[misc]
            )
    return written


def write_adapters(work: Work, family: Family) -> list[Path]:
    """Write the LoRAs that stay files of their own; return their paths."""
    apart = work.checkpoint.source.apart
    made = adapter.paths(apart, work.folder)
    for path, one in zip(made, apart, strict=True):
        adapter.write_adapter(path, work.checkpoint, family, one)
    return made


def quantise_all(work: Work, exact: Paths) -> tuple[list[ArtifactPlan], Paths]:
    """Quantise the first float GGUF to every type asked for; return all artifacts and their paths.

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
            types, planned[i] = fit(work, source, calibrated)
        if kind.quantised:
            _quantise(work, source, paths[kind], planned[i], types, matrix)
    return planned, paths


def _calibrates(work: Work, planned: Sequence[ArtifactPlan]) -> bool:
    """Tell whether an importance matrix is wanted by a type that it changes."""
    changed = any(p.quantisation.quantised and p.quantisation.base != "Q8_0" for p in planned)
    return changed and work.job.calibration != NONE


def fit(
    work: Work, exact: Path, calibrated: Calibration | None
) -> tuple[dict[str, TensorType], ArtifactPlan]:
    """Return the types that lose least within the plan's bytes, and the plan with these."""
    fitting, progress = work.plan.fitting, work.progress
    assert fitting
    progress.stage("measuring rounding errors", len(work.plan.model.tensors))
    matrix = calibrated.matrix if calibrated else None
    found = losses.measure_losses(exact, matrix, progress.advance)
    if calibrated and calibrated.windows:
        progress.stage("measuring sensitivity", len(sensitivity.groups(list(found))))
        weights = sensitivity.measure(
            exact, native_kind(work.checkpoint), found, calibrated.windows[: sensitivity.WINDOWS],
            work.engines.open, work.folder, work.job.threads, progress.advance,
        )  # fmt: skip
        found = losses.weigh(found, weights)
    types, row = fitting.solve(exact, found)
    return types, row.artifact


def _quantise(
    work: Work,
    source: Path,
    target: Path,
    planned: ArtifactPlan,
    types: Mapping[str, TensorType] | None,
    matrix: Path | None,
) -> None:
    kind = planned.quantisation
    work.progress.stage(f"quantising to {kind.name}", len(planned.tensors))
    done = 0

    def on_tensor(begun: int, _all: int) -> None:
        nonlocal done
        work.progress.advance(begun - done)
        done = begun

    run = fallback.quantiser(find_family(work.checkpoint.config))
    run(source, target, kind, work.job.threads, on_tensor, types=types, importance=matrix)


def verify_all(work: Work, exact: Paths, paths: Paths) -> dict[Quantisation, Certificate]:
    """Compare every file with the checkpoint's own forward pass; return the certificates."""
    return {kind: work.certifier.certify(path, kind) for kind, path in {**exact, **paths}.items()}


def write_modelfile(
    path: Path, context: int, vocabulary: Vocabulary, adapters: Sequence[Path]
) -> Path:
    """Write the Modelfile beside a GGUF and its LoRAs; return its path."""
    special = vocabulary.special
    end = special.special_token_ids.get("eos")
    text = vocabulary.tokens[end].decode(errors="replace") if end is not None else ""
    template = special.chat_template if isinstance(special.chat_template, str) else None
    target = path.with_suffix(".Modelfile")
    target.write_text(
        modelfile(path.name, context, template, text, [a.name for a in adapters]), encoding="utf-8"
    )
    return target


def _float_bytes(plan: ConvertPlan, kind: Quantisation) -> int:
    return plan.model.parameters * (4 if kind.name == "F32" else 2)


MAKER = Maker(make, disk_bytes)

"""The GGUF artifacts of a bundle: float files, quantised files, certificates.

All are made from one lossless GGUF. Unless it was asked for, it is kept in the cache, where the
next conversion of the same checkpoint finds it. A GGUF that is converted is used as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pitool.catalog import gguf, manifest
from pitool.catalog.manifest import Artifact, Certificate, Fit
from pitool.catalog.tensor_types import QUANTISATIONS, Quantisation, TensorType
from pitool.checkpoint import tokenizer
from pitool.checkpoint.config import Config
from pitool.checkpoint.source import Checkpoint, Source
from pitool.convert import cache, encoder
from pitool.convert.conversion import Conversion, Maker
from pitool.convert.describe import planned_artifact
from pitool.convert.forward import expected
from pitool.convert.gguf import adapter, grids, layers, quantise
from pitool.convert.gguf.calibrate import calibrate
from pitool.convert.gguf.choice import check_trained
from pitool.convert.gguf.fitting import FIT
from pitool.convert.gguf.grids import Found, types_of
from pitool.convert.gguf.importance import NONE
from pitool.convert.gguf.model import find_model
from pitool.convert.gguf.modelfile import modelfile
from pitool.convert.gguf.origins import Chat, Origin, find_origin
from pitool.convert.gguf.solving import solve_types
from pitool.convert.plan import ConvertPlan
from pitool.convert.verify import check_worst
from pitool.planning import type_mixture
from pitool.planning.formats.gguf import GgufPlan
from pitool.report.progress import counting

Paths = dict[Quantisation, Path]
EXACT = QUANTISATIONS["F32"]
# A larger model is compared in the types of its bundle only.
READING_CHECK_PARAMETERS = 2_000_000_000


def make(work: Conversion) -> list[Artifact]:
    """Write all GGUFs of the plan into the bundle, verify them, and return their entries."""
    origin = find_origin(work.checkpoint)
    check_reading(work, origin)
    exact = write_exact(work, origin)
    adapters = write_adapters(work)
    planned, paths, found, fits = quantise_all(work, origin, exact)
    cosines = compare_vectors(work, exact, paths)
    certificates = {} if cosines else verify_all(work, exact, paths)
    check_worst({kind.name: made for kind, made in certificates.items()}, work.job.worst_kl)
    work.progress.stage("hashing", len(paths))
    made = []
    for plan in planned:
        kind = plan.quantisation
        files = [paths[kind], write_modelfile(paths[kind], plan.context, origin.chat, adapters)]
        weights = "" if kind in exact else grids.describe(found, plan.tensors)
        made.append(
            planned_artifact(
                work,
                plan,
                files,
                certificates.get(kind),
                adapters,
                weights=weights,
                cosine=cosines.get(kind),
                fit=fits.get(kind),
            )
        )
        work.progress.advance(1)
    return made


def exact_kinds(origin: Origin, plan: ConvertPlan) -> list[Quantisation]:
    """Return the types to write without quantising: first the one that others are made from."""
    wanted, rounded = [a.quantisation for a in plan.of(GgufPlan)], plan.rounded
    asked = [kind for kind in wanted if kind not in rounded]
    return list(dict.fromkeys([origin.kind, *asked])) if rounded else asked


def disk_bytes(checkpoint: Checkpoint, plan: ConvertPlan) -> tuple[int, int]:
    """Return the disk space of the artifacts, and of the lossless GGUF in the cache."""
    origin, made = find_origin(checkpoint), plan.of(GgufPlan)
    asked = {a.quantisation for a in made}
    between = [kind for kind in exact_kinds(origin, plan) if kind not in asked]
    cached = sum(_float_bytes(plan, kind) for kind in between) if origin.file is None else 0
    if origin.file and checkpoint.whole:
        cached = gguf.read_header(origin.file).bytes  # the rows that are copied
    bytes_ = sum(a.bytes for a in made)
    if reading_is_checked(checkpoint, plan, origin):
        bytes_ = max(bytes_, _float_bytes(plan, EXACT))
    return bytes_, cached


def header_of(source: Source, config: Config) -> int:
    """Return the size of a GGUF before its tensors, from the settings and vocabulary alone."""
    return find_origin(Checkpoint(source, source.settings_folder, config, {})).header_bytes()


def reading_is_checked(checkpoint: Checkpoint, plan: ConvertPlan, origin: Origin) -> bool:
    """Tell whether another's reading of a checkpoint is compared with transformers' in float32."""
    parameters = plan.model.parameters
    small = parameters < READING_CHECK_PARAMETERS
    return origin.foreign and small and bool(expected(checkpoint.config, parameters))


def check_reading(work: Conversion, origin: Origin) -> None:
    """Raise PitoolError when llama.cpp's own converter misreads the checkpoint's settings.

    What rounding to the types of a bundle may do hides small misreadings, so a GGUF in F32 is
    written and thrown away.
    """
    if reading_is_checked(work.checkpoint, work.plan, origin):
        path = work.folder / ".reading.gguf"
        origin.write(EXACT, path, work.progress)
        work.certifier.check_reading(path)
        path.unlink()


def write_exact(work: Conversion, origin: Origin) -> Paths:
    """Write the lossless GGUFs from the origin; return their paths."""
    asked = [a.quantisation for a in work.plan.of(GgufPlan)]
    written = {}
    for kind in exact_kinds(origin, work.plan):
        if kind in asked:
            written[kind] = work.folder / work.file_name(f"{kind.name}.gguf")
            origin.write(kind, written[kind], work.progress)
        else:
            written[kind] = _between(work, origin, kind)
    return written


def exact_file(work: Conversion) -> Path:
    """Return the lossless GGUF of a checkpoint, whatever is made: it tokenizes a text."""
    origin = find_origin(work.checkpoint)
    return _between(work, origin, origin.kind)


def _between(work: Conversion, origin: Origin, kind: Quantisation) -> Path:
    """Return a float GGUF that is no artifact, from the cache or made into it."""
    trim = work.checkpoint.source.trim
    # A part of a vocabulary is told apart from the whole, and from any other part.
    name = f"{kind.name} {trim.digest}" if trim else kind.name
    return origin.file or cache.get(
        cache.key(_made_of(work.source), name),
        lambda path: origin.write(kind, path, work.progress),
    )


def _made_of(source: manifest.Source) -> manifest.Source:
    """Return what a lossless GGUF depends on: of the LoRAs beside it the tokenizer alone."""
    kept = (
        replace(one, scale=1.0, files=tuple(f for f in one.files if f.path in tokenizer.FILES))
        for one in source.apart
    )
    return replace(source, apart=tuple(one for one in kept if one.files))


def write_adapters(work: Conversion) -> list[Path]:
    """Write the LoRAs that stay separate files; return their paths."""
    model = find_model(work.checkpoint.config)
    apart = work.checkpoint.source.apart
    made = adapter.paths(apart, work.folder)
    for path, one in zip(made, apart, strict=True):
        adapter.write_adapter(path, work.checkpoint, model, one)
    return made


def quantise_all(
    work: Conversion, origin: Origin, exact: Paths
) -> tuple[list[GgufPlan], Paths, Found, dict[Quantisation, Fit]]:
    """Quantise the first lossless GGUF to every type asked for; return all plans and paths.

    The plan of a GGUF of a given size is replaced by one with the types that lose least. Third are
    the matrices that lie on grids, which they keep; fourth, how types were chosen.
    """
    planned, paths, fits = list(work.plan.of(GgufPlan)), {}, {}
    source = next(iter(exact.values()))
    rounding = [plan for plan in planned if plan.quantisation not in exact]
    found = find_grids(work, origin, source, rounding)
    calibrated = calibrate(work, source) if _calibrates(work, rounding, found) else None
    matrix = calibrated.path if calibrated else None
    for i, plan in enumerate(planned):
        kind = plan.quantisation
        paths[kind] = exact.get(kind) or work.folder / work.file_name(f"{kind.name}.gguf")
        if kind in exact:
            continue
        types: dict[str, TensorType] = {}
        if kind is FIT:
            chosen = solve_types(work, origin.kind, source, calibrated)
            types, planned[i], fits[kind] = chosen.types, chosen.plan, chosen.fit
        planned[i] = keep_grids(work, planned[i], found)
        kept = grids.kept(found, planned[i].tensors)
        made = layers.round_tensors(work, source, planned[i].tensors, kept)
        work.progress.stage(f"quantising to {kind.name}", len(plan.tensors))
        origin.quantise(
            source, paths[kind], kind, work.job.threads, counting(work.progress),
            types=types | {name: each.type for name, each in kept.items()}, importance=matrix,
            **({"on_grid": {name: each.stored for name, each in kept.items()}} if kept else {}),
            **({"made": made} if made else {}),
        )  # fmt: skip
    return planned, paths, found, fits


def find_grids(work: Conversion, origin: Origin, exact: Path, planned: Sequence[GgufPlan]) -> Found:
    """Return the matrices of the lossless GGUF that lie on grids, if any is to be quantised.

    llama.cpp's own quantiser, which takes other families, keeps no grid.
    """
    rounds = any(plan.quantisation.quantised for plan in planned)
    if not rounds or origin.quantise is not quantise.quantise:
        return {}
    work.progress.stage("looking for grids", len(work.plan.model.tensors))
    return grids.find(exact, work.progress.advance)


def keep_grids(work: Conversion, plan: GgufPlan, found: Found) -> GgufPlan:
    """Return a plan in which matrices keep their grids, as all weights say and not a few rows.

    BadInput for a type that needs a grid that they do not lie on; DoesNotFit where the plan relied
    on one.
    """
    fitting, kind = work.plan.fitting, plan.quantisation
    assert fitting
    model = replace(fitting.planner.model, grids=types_of(found))
    check_trained(kind, model)
    if kind is FIT:
        kept = type_mixture.keep_grids(plan.tensors, kind, model.grids)
        model = replace(model, stored={kind.name: kept})
    planner = replace(fitting.planner, model=model)
    row = planner.row(kind, fitting.place)
    assert isinstance(row.artifact, GgufPlan)
    if row.artifact.tensors != plan.tensors:
        planner.require(row)
    return row.artifact


def _calibrates(work: Conversion, planned: Sequence[GgufPlan], found: Found) -> bool:
    """Tell whether a planned type depends on an importance matrix."""
    if work.job.calibration == NONE or work.plan.model.encoder:
        return False
    return any(plan.quantisation.weighted and _rounds(plan, found) for plan in planned)


def _rounds(plan: GgufPlan, found: Found) -> bool:
    """Tell whether a matrix of a plan does not keep a grid that it lies on."""
    matrices = {t.tensor.name for t in plan.tensors if type_mixture.is_rounded(t.tensor)}
    return not matrices <= grids.kept(found, plan.tensors).keys()


def compare_vectors(work: Conversion, exact: Paths, paths: Paths) -> dict[Quantisation, float]:
    """Compare the vectors of an encoder's files with the checkpoint's; of others there are none."""
    if not work.plan.model.encoder:
        return {}
    return {kind: encoder.compare(work, path, kind) for kind, path in {**exact, **paths}.items()}


def verify_all(work: Conversion, exact: Paths, paths: Paths) -> dict[Quantisation, Certificate]:
    """Compare every file with the checkpoint; return the certificates."""
    return {kind: work.certifier.certify(path, kind) for kind, path in {**exact, **paths}.items()}


def write_modelfile(path: Path, context: int, chat: Chat, adapters: Sequence[Path]) -> Path:
    """Write the Modelfile of a GGUF and its LoRAs next to it; return its path."""
    names = [a.name for a in adapters]
    target = path.with_suffix(".Modelfile")
    text = modelfile(path.name, context, chat.template, chat.end, names, chat.stops)
    target.write_text(text, encoding="utf-8")
    return target


def _float_bytes(plan: ConvertPlan, kind: Quantisation) -> int:
    return plan.model.parameters * (4 if kind.name == "F32" else 2)


MAKER = Maker(make, disk_bytes)

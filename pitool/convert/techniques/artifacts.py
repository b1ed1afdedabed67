"""The artifacts of a bundle that techniques of the lab make: what it found best, for a board."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from pitool.catalog.manifest import Artifact, Certificate
from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.checkpoint.source import Checkpoint
from pitool.convert.conversion import Conversion, Maker
from pitool.convert.describe import graph_first, of_vocabulary
from pitool.convert.gguf.calibrate import windows
from pitool.convert.gguf.importance import NONE
from pitool.convert.plan import ConvertPlan
from pitool.convert.techniques.assemble import Assembled, assemble, footprint
from pitool.convert.techniques.gguf import exact
from pitool.convert.techniques.planned import TechniquePlan, calibrates
from pitool.convert.techniques.spool import BYTES_PER_WEIGHT
from pitool.convert.techniques.workbench import Workbench
from pitool.convert.verify import check_worst
from pitool.errors import BadInput, UsageError
from pitool.planning.entries import artifact

SCRATCH = ".techniques"


def make(work: Conversion) -> list[Artifact]:
    """Make what the plan's techniques make, verify it, and return the manifest's entries."""
    planned = work.plan.of(TechniquePlan)
    scratch = work.folder / SCRATCH
    scratch.mkdir()
    try:
        bench = _workbench(work, scratch)
        if work.certifier.needs_float:
            work.certifier.certify(exact(bench), QUANTISATIONS["F32"])
        made = [_make(work, plan, bench) for plan in planned]
    finally:
        shutil.rmtree(scratch)
    certificates = [
        work.certifier.certify(each.made.entry, plan.quantisation)
        for plan, each in zip(planned, made, strict=True)
    ]
    names = (plan.quantisation.name for plan in planned)
    check_worst(dict(zip(names, certificates, strict=True)), work.job.worst_kl)
    return [_entry(work, *each) for each in zip(planned, made, certificates, strict=True)]


def _workbench(work: Conversion, scratch: Path) -> Workbench:
    bench = Workbench(
        work.checkpoint,
        scratch,
        threads=work.job.threads,
        progress=work.progress,
        open_calibrator=work.engines.open_calibrator,
        shared=scratch,
    )
    if not any(map(calibrates, work.plan.of(TechniquePlan))):
        return bench
    if work.job.calibration == NONE:
        raise UsageError(
            "a technique in --quant needs a calibration text, but --calibration is 'none'",
            "use --calibration FILE or --calibration self",
        )
    text = windows(work, exact(bench))
    return replace(bench, calibration=tuple(map(tuple, text)))


def _make(work: Conversion, plan: TechniquePlan, bench: Workbench) -> Assembled:
    """Run a technique and put its folder into the bundle."""
    folder = bench.folder / plan.technique.name
    folder.mkdir()
    assembled = assemble(plan.technique, replace(bench, folder=folder))
    if assembled.kernel is None:
        raise BadInput(f"{plan.technique.name} is {assembled.note}", "choose a GGUF quantisation")
    target = work.folder / work.file_name(plan.quantisation.folder)
    assembled.made.entry.rename(target)
    shutil.rmtree(folder)
    return replace(assembled, made=replace(assembled.made, entry=target))


def _entry(
    work: Conversion, plan: TechniquePlan, assembled: Assembled, certificate: Certificate
) -> Artifact:
    """Return the manifest's entry, with the memory of what was made."""
    made = assembled.made
    work.progress.stage(f"hashing ONNX {plan.quantisation.name}", 1)
    entry = artifact(
        work.folder,
        graph_first(made.entry),
        work.plan.model,
        of_vocabulary(work, plan, certificate),
        format_name=made.format,
        quantisation=plan.quantisation.name,
        context=plan.context,
        bits_per_weight=assembled.bits_per_weight,
        memory=footprint(made, work.plan.model, plan.context).memory,
        load=plan.load,
        speed=plan.speeds,
        tokenization=work.tokens.of(made.entry),
    )
    work.progress.advance(1)
    return entry


def disk_bytes(_checkpoint: Checkpoint, plan: ConvertPlan) -> tuple[int, int]:
    """Return the bytes that are needed while the artifacts are made; none in the cache."""
    planned = plan.of(TechniquePlan)
    scratch = plan.model.parameters * BYTES_PER_WEIGHT if planned else 0
    return sum(each.bytes for each in planned) + scratch, 0


MAKER = Maker(make, disk_bytes)

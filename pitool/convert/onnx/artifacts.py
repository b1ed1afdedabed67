"""The ONNX artifacts of a bundle: which there can be, their folders, certificates."""

from __future__ import annotations

import shutil
from pathlib import Path

from pitool.checkpoint.source import Checkpoint
from pitool.convert.describe import artifact
from pitool.convert.onnx.writer import write_onnx
from pitool.convert.plan import ConvertPlan
from pitool.convert.reference import covers
from pitool.convert.verify import check_worst
from pitool.convert.work import Maker, Work
from pitool.spec.manifest import Artifact, Certificate
from pitool.spec.memory import Load
from pitool.spec.onnx_weights import ONNX_QUANTISATIONS
from pitool.spec.plan_onnx import OnnxPlan, onnx_artifact

FORMAT = "onnx"
EXACT = ONNX_QUANTISATIONS["FP32"]


def make(work: Work) -> list[Artifact]:
    """Write all ONNX folders of the plan into the bundle, verify them, return their entries."""
    planned = work.plan.of(OnnxPlan)
    folders = {plan.quantisation: _write(work, plan) for plan in planned}
    if not (covers(work.checkpoint.config) or work.certifier.begun):
        _refer(work, planned[0].load)
    certificates = {kind: work.certifier.certify(path, kind) for kind, path in folders.items()}
    check_worst({kind.name: found for kind, found in certificates.items()}, work.job.worst_kl)
    return [
        _entry(work, plan, folders[plan.quantisation], certificates[plan.quantisation])
        for plan in planned
    ]


def _write(work: Work, plan: OnnxPlan, name: str = "") -> Path:
    kind = plan.quantisation
    work.progress.stage(f"writing ONNX {kind.name}", plan.bytes, bytes_=True)
    return write_onnx(
        work.folder / (name or work.file_name(kind.folder)),
        work.checkpoint,
        kind,
        context=plan.context,
        on_bytes=work.progress.advance,
    )


def _refer(work: Work, load: Load) -> None:
    """Let a float graph be the reference of a family whose forward pass is not known here."""
    folder = _write(work, onnx_artifact(work.plan.model, EXACT, load), ".reference")
    work.certifier.certify(folder, EXACT)
    shutil.rmtree(folder)


def _entry(work: Work, plan: OnnxPlan, folder: Path, certificate: Certificate) -> Artifact:
    """Return the manifest's entry of a folder, the graph first."""
    files = sorted(folder.iterdir(), key=lambda path: (path.suffix != ".onnx", path.name))
    work.progress.stage(f"hashing ONNX {plan.quantisation.name}", 1)
    made = artifact(work, plan, files, certificate)
    work.progress.advance(1)
    return made


def disk_bytes(checkpoint: Checkpoint, plan: ConvertPlan) -> tuple[int, int]:
    """Return the bytes that the artifacts take; nothing is kept in the cache."""
    planned = plan.of(OnnxPlan)
    made = sum(each.bytes for each in planned)
    if planned and not covers(checkpoint.config):
        made += onnx_artifact(plan.model, EXACT, planned[0].load).bytes
    return made, 0


MAKER = Maker(make, disk_bytes)

"""The ONNX artifacts of a bundle: which there can be, their folders, certificates."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

from pitool.catalog.manifest import Artifact, Certificate
from pitool.checkpoint.source import Checkpoint
from pitool.convert.conversion import Conversion, Maker
from pitool.convert.describe import graph_first, planned_artifact
from pitool.convert.forward import expected
from pitool.convert.onnx import layers
from pitool.convert.onnx.export import export, write_exported
from pitool.convert.onnx.fused import supported
from pitool.convert.onnx.weights import Weights
from pitool.convert.onnx.writer import write_onnx
from pitool.convert.plan import ConvertPlan
from pitool.convert.verify import check_worst
from pitool.planning.formats.onnx import OnnxPlan, plan_folder
from pitool.planning.memory import Load
from pitool.planning.onnx_weights import ONNX_QUANTISATIONS

EXACT = ONNX_QUANTISATIONS["FP32"]
# The float graph of a larger model is written only where a quantised one looks wrong.
GRAPH_CHECK_PARAMETERS = 250_000_000
USUAL_ERROR = 0.2


class Folders:
    """Writes the folders of a conversion; what optimum exported is there while they are made."""

    def __init__(self, work: Conversion) -> None:
        self._work = work
        self._exported: Path | None = None

    def write(self, plan: OnnxPlan, name: str = "") -> Path:
        """Write the folder of a plan, called ``name`` or after its quantisation; return it."""
        work, kind = self._work, plan.quantisation
        folder = work.folder / (name or work.file_name(kind.folder))
        if not supported(work.checkpoint.config):
            exported = self._export()
            work.progress.stage(f"quantising ONNX {kind.name}", 1)
            made = write_exported(folder, work.checkpoint, exported, kind, work.plan.model)
            work.progress.advance(1)
            return made
        checkpoint, make_weights = layers.round_folder(work, kind) or (work.checkpoint, Weights)
        work.progress.stage(f"writing ONNX {kind.name}", plan.bytes, bytes_=True)
        return write_onnx(
            folder, checkpoint, kind, context=plan.context, on_bytes=work.progress.advance,
            make_weights=make_weights,
        )  # fmt: skip

    def _export(self) -> Path:
        if self._exported is None:
            self._work.progress.stage("exporting with optimum", 1)
            self._exported = export(self._work.checkpoint, self._work.folder / ".exported")
            self._work.progress.advance(1)
        return self._exported

    def close(self) -> None:
        """Remove what optimum exported."""
        if self._exported:
            shutil.rmtree(self._exported)


def make(work: Conversion) -> list[Artifact]:
    """Write all ONNX folders of the plan into the bundle, verify them, return their entries."""
    planned = work.plan.of(OnnxPlan)
    with closing(Folders(work)) as folders:
        paths = {plan.quantisation: folders.write(plan) for plan in planned}
        only_quantised = all(kind.quantised for kind in paths)
        small = work.plan.model.parameters < GRAPH_CHECK_PARAMETERS
        if work.certifier.needs_float or (only_quantised and small):
            check_graph(work, folders, planned[0].load)
            only_quantised = False
        certificates = {kind: work.certifier.certify(path, kind) for kind, path in paths.items()}
        if only_quantised and any(map(is_suspicious, certificates.values())):
            check_graph(work, folders, planned[0].load)
    check_worst({kind.name: found for kind, found in certificates.items()}, work.job.worst_kl)
    return [
        _entry(work, plan, paths[plan.quantisation], certificates[plan.quantisation])
        for plan in planned
    ]


def check_graph(work: Conversion, folders: Folders, load: Load) -> None:
    """Raise PitoolError when the graph computes something else than the checkpoint.

    Rounding to a few bits hides what a float graph shows, so one is written and thrown away.
    """
    exported = not supported(work.checkpoint.config)
    plan = plan_folder(work.plan.model, EXACT, load, exported=exported)
    folder = folders.write(plan, ".reference")
    work.certifier.certify(folder, EXACT)
    shutil.rmtree(folder)


def is_suspicious(certificate: Certificate) -> bool:
    """Tell whether an artifact differs more than a good quantisation usually does."""
    return (certificate.logit_error or 0) > USUAL_ERROR


def _entry(work: Conversion, plan: OnnxPlan, folder: Path, certificate: Certificate) -> Artifact:
    """Return the manifest's entry of a folder."""
    work.progress.stage(f"hashing ONNX {plan.quantisation.name}", 1)
    made = planned_artifact(work, plan, graph_first(folder), certificate)
    work.progress.advance(1)
    return made


def disk_bytes(checkpoint: Checkpoint, plan: ConvertPlan) -> tuple[int, int]:
    """Return the bytes that the artifacts take; nothing is kept in the cache."""
    planned = plan.of(OnnxPlan)
    made = sum(each.bytes for each in planned)
    exported = not supported(checkpoint.config)
    checked = plan.model.parameters < GRAPH_CHECK_PARAMETERS and all(
        each.quantisation.quantised for each in planned
    )
    if planned and (exported or checked or not expected(checkpoint.config, plan.model.parameters)):
        exact = plan_folder(plan.model, EXACT, planned[0].load, exported=exported).bytes
        made += exact * (2 if exported else 1)
    return made, 0


MAKER = Maker(make, disk_bytes)

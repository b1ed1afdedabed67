"""Plans of ONNX artifacts: verdicts as in ``plan``, on the sums of ``memory_onnx``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from pitool.catalog.boards import Board
from pitool.catalog.manifest import Speed
from pitool.catalog.model_shape import ModelShape
from pitool.planning.memory import Load, MemoryPlan
from pitool.planning.memory_onnx import POSITIONS, onnx_cache_bytes, plan_exported, plan_onnx
from pitool.planning.onnx_weights import (
    ONNX_QUANTISATIONS,
    OnnxQuantisation,
    OnnxTensor,
    exported_tensors,
    stored_tensors,
)
from pitool.planning.plan import Place, Planner, Subject, Verdict, judge, tier_places
from pitool.planning.speed import NONE, Correction, Estimate
from pitool.planning.speed_onnx import estimate_onnx


@dataclass(frozen=True, slots=True)
class OnnxPlan:
    """What one ONNX artifact will be: exact tensor bytes and memory; ``context`` in tokens."""

    quantisation: OnnxQuantisation
    context: int
    tensors: tuple[OnnxTensor, ...]
    memory: MemoryPlan
    load: Load
    parameters: int
    estimates: tuple[Estimate, ...] = ()
    format: str = "onnx"

    @property
    def speeds(self) -> tuple[Speed, ...]:
        """The predicted speeds as a manifest keeps them."""
        return tuple(e.speed for e in self.estimates)

    @property
    def bytes(self) -> int:
        """Bytes of the tensors, rotations included."""
        return sum(tensor.bytes for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Stored bits over the number of weights; rotations are no weights."""
        weights = sum(t.bytes for t in self.tensors if not t.name.startswith("rope."))
        return weights * 8 / self.parameters


@dataclass(frozen=True, slots=True)
class OnnxRow:
    """An artifact at a place; ``left`` and ``peak`` in bytes, as in ``plan.Row``."""

    artifact: OnnxPlan
    place: Place
    verdict: Verdict
    left: int
    peak: int
    longest_context: int


def onnx_artifact(
    shape: ModelShape,
    kind: OnnxQuantisation,
    load: Load,
    *,
    exported: bool = False,
    boards: Mapping[str, Board] | None = None,
    correction: Correction = NONE,
) -> OnnxPlan:
    """Return what a model is at an ONNX quantisation, written by pitool or exported by optimum.

    Speeds are predicted for ``boards``, by id.
    """
    if exported:
        tensors = exported_tensors(shape, kind)
        memory = plan_exported(shape, kind, load)
    else:
        positions = min(shape.context, max(POSITIONS, load.context))
        tensors = stored_tensors(shape, kind, positions)
        memory = plan_onnx(shape, kind, load)
    kv_bytes = onnx_cache_bytes(shape, kind, load.context)
    estimates = tuple(
        estimate_onnx(key, board, shape, kind, tensors, kv_bytes=kv_bytes, correction=correction)
        for key, board in (boards or {}).items()
    )
    return OnnxPlan(kind, load.context, tensors, memory, load, shape.parameters, estimates)


def onnx_row(planner: Planner, kind: OnnxQuantisation, place: Place) -> OnnxRow:
    """Return the artifact at a place with its verdict."""
    subject = planner.subject
    artifact = onnx_artifact(
        subject.shape,
        kind,
        planner.load,
        exported=subject.exported,
        boards=place.boards,
        correction=planner.onnx_correction,
    )
    peak = artifact.memory.total
    verdict = judge(peak, place, planner.profile)
    longest = _longest_context(subject, kind, planner.load, place.budget(planner.profile))
    return OnnxRow(artifact, place, verdict, place.room - peak, peak, longest)


def _longest_context(subject: Subject, kind: OnnxQuantisation, load: Load, budget: int) -> int:
    """Return the most tokens of context, a multiple of 256, that fit ``budget``; 0 for none."""
    plan = plan_exported if subject.exported else plan_onnx
    low, high = 0, subject.shape.context // 256
    while low < high:
        middle = (low + high + 1) // 2
        fits = plan(subject.shape, kind, replace(load, context=middle * 256)).total <= budget
        low, high = (middle, high) if fits else (low, middle - 1)
    return low * 256


def onnx_remedies(planner: Planner, row: OnnxRow) -> Iterator[str]:
    """Yield the options, each by itself enough, with which a row would fit."""
    if row.verdict is Verdict.FITS:
        return
    if row.longest_context:
        yield f"--context {row.longest_context}"
    for kind in ONNX_QUANTISATIONS.values():
        other = onnx_row(planner, kind, row.place)
        if other.artifact.bytes < row.artifact.bytes and other.verdict is Verdict.FITS:
            yield f"--quant {kind.name}"
            break
    for place in tier_places():
        larger = place.room > row.place.room
        if larger and onnx_row(planner, row.artifact.quantisation, place).verdict is Verdict.FITS:
            yield f"--ram {place.tier}"
            break

"""A technique of the lab as part of a conversion: its plan, before anything is made."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pitool.checkpoint.config import Config
from pitool.convert.techniques import FEEDBACK, find_technique
from pitool.convert.techniques.base import Need, Technique
from pitool.convert.techniques.packed import unpackable
from pitool.errors import BadInput, UsageError
from pitool.planning.formats.onnx import OnnxPlan
from pitool.planning.onnx_weights import ONNX_QUANTISATIONS
from pitool.planning.places import Place
from pitool.planning.planner import Planner

# More bits than these are planned as 8-bit blocks.
MOST_OF_FOUR = 5.5


@dataclass(frozen=True, slots=True)
class TechniquePlan(OnnxPlan):
    """The plan of a technique's ONNX folder: that of the nearest quantisation, at least as large.

    Its memory is computed from the graph when that is made.
    """

    technique: Technique = field(kw_only=True)


def plan_technique(planner: Planner, place: Place, config: Config, name: str) -> TechniquePlan:
    """Return the plan of a technique; DoesNotFit with the numbers where it does not.

    UsageError for one that no runtime runs, BadInput for a model that its kernel does not take.
    """
    technique = find_technique(name)
    if name.endswith(FEEDBACK) and technique.kernel == "llama.cpp":
        plain = name.removesuffix(FEEDBACK).upper()
        raise UsageError(
            f"{technique.name} is a GGUF quantisation with more effort",
            f"use --quant {plain} --effort normal",
        )
    if technique.kernel != "onnxruntime":
        raise UsageError(
            f"no runtime has a kernel for {technique.name}",
            "choose one that runs on onnxruntime: pitool compare --list",
        )
    if reason := unpackable(config):
        raise BadInput(f"{technique.name} cannot be packed: {reason}", "choose a GGUF quantisation")
    nearest = "INT4_HEAD8" if technique.bits <= MOST_OF_FOUR else "INT8"
    row = planner.row(ONNX_QUANTISATIONS[nearest], place)
    plan = row.artifact
    assert isinstance(plan, OnnxPlan)
    kind = replace(ONNX_QUANTISATIONS[nearest], name=technique.name.upper())
    planner.require(replace(row, artifact=replace(plan, quantisation=kind)), planner.remedies(row))
    return TechniquePlan(
        kind, plan.load, plan.tensors, plan.weights, plan.memory, plan.estimates,
        besides=plan.besides, technique=technique,
    )  # fmt: skip


def calibrates(plan: TechniquePlan) -> bool:
    """Tell whether a technique reads a text."""
    return Need.CALIBRATION in plan.technique.needs

"""Which ONNX quantisations a conversion makes: those that are named, or what suits the boards."""

from __future__ import annotations

from pitool.catalog.tables import names_in
from pitool.checkpoint.config import Config
from pitool.convert.onnx import export
from pitool.convert.onnx.fused import refusal as writer_refusal
from pitool.convert.onnx.fused import supported
from pitool.errors import PitoolError
from pitool.planning.onnx_weights import (
    ONNX_QUANTISATIONS,
    OnnxQuantisation,
    find_onnx_quantisation,
)
from pitool.planning.plan import AUTO, Place, Planner, Verdict
from pitool.planning.plan_onnx import OnnxRow, onnx_remedies, onnx_row
from pitool.planning.refusal import require
from pitool.report.numbers import format_bytes


def plan_onnx(
    planner: Planner, place: Place, config: Config, quantisations: str, *, alone: bool
) -> tuple[list[OnnxRow], list[str]]:
    """Return the rows that a conversion makes, and a line for each that ``auto`` left out.

    ``quantisations``: names with commas between, each of which must fit, or ``auto``. ``alone``:
    no other format is made, so that at least one must fit, and a family that the writer does not
    know is exported.
    """
    if quantisations != AUTO:
        kinds = dict.fromkeys(find_onnx_quantisation(name) for name in names_in(quantisations))
        return [_named(planner, place, config, kind) for kind in kinds], []
    tried = suited(place)
    if wrong := refusal(config, tried[-1]):
        if alone:
            raise wrong
        return [], [f"ONNX is left out: {wrong.what}"]
    if not (alone or supported(config)):
        return [], ["ONNX is left out: --format onnx exports this family, with optimum"]
    rows = [onnx_row(planner, kind, place) for kind in tried]
    fitting = [row for row in rows if row.verdict is Verdict.FITS]
    if alone and not fitting:
        return [_named(planner, place, config, tried[-1])], []
    room = format_bytes(place.budget(planner.profile))
    left_out = [
        f"ONNX {row.artifact.quantisation.name} is left out: it needs {format_bytes(row.peak)},"
        f" {place.name} has {room} for a model"
        for row in rows
        if row not in fitting
    ]
    return fitting, left_out


def refusal(config: Config, kind: OnnxQuantisation) -> PitoolError | None:
    """Return why a checkpoint can be neither written nor exported at a quantisation, or None."""
    return (writer_refusal if supported(config) else export.refusal)(config, kind)


def suited(place: Place) -> tuple[OnnxQuantisation, ...]:
    """Return what ``auto`` tries: 8 bits as the boards multiply them best, and 4 bits.

    MatMulNBits takes 16 instructions for an 8-bit weight on a CPU without dotprod, dynamic INT8
    half of one.
    """
    dotprod = bool(place.boards) and all(board.dotprod for board in place.boards.values())
    eight = "INT8" if dotprod else "INT8_DYNAMIC"
    return ONNX_QUANTISATIONS[eight], ONNX_QUANTISATIONS["INT4"]


def _named(planner: Planner, place: Place, config: Config, kind: OnnxQuantisation) -> OnnxRow:
    """Return the row of what was asked for; raises where it cannot be made or does not fit."""
    if wrong := refusal(config, kind):
        raise wrong
    row = onnx_row(planner, kind, place)
    require(planner, row, onnx_remedies(planner, row))
    return row

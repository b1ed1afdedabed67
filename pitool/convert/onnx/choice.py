"""Which ONNX quantisations a conversion makes: those that are named, or what suits the boards."""

from __future__ import annotations

from pitool.catalog.tables import names_in
from pitool.checkpoint.config import Config
from pitool.convert.onnx import export
from pitool.convert.onnx.fused import is_encoder, supported
from pitool.convert.onnx.fused import refusal as writer_refusal
from pitool.errors import BadInput, PitoolError
from pitool.planning.formats import ONNX
from pitool.planning.onnx_weights import OnnxQuantisation
from pitool.planning.places import Place
from pitool.planning.planner import AUTO, Planner, Row
from pitool.report.numbers import compare_bytes


def plan_onnx(
    planner: Planner, place: Place, config: Config, quantisations: str, *, alone: bool
) -> tuple[list[Row], list[str]]:
    """Return the rows that a conversion makes, and a line for each that ``auto`` left out.

    ``quantisations``: names with commas between, each of which must fit, or ``auto``. ``alone``:
    no other format is made, so that at least one must fit, and a family that the writer does not
    know is exported.
    """
    if quantisations != AUTO:
        kinds = dict.fromkeys(ONNX.find(name) for name in names_in(quantisations))
        return [_named(planner, place, config, kind) for kind in kinds], []
    tried = ONNX.suited(place)
    if wrong := refusal(config, tried[-1]):
        if alone:
            raise wrong
        return [], [f"ONNX is skipped: {wrong.what}"]
    if not (alone or supported(config)):
        return [], ["ONNX is skipped: only --format onnx exports this family, with optimum"]
    rows = planner.rows(tried, [place])
    fitting = [row for row in rows if row.fits]
    if alone and not fitting:
        return [_named(planner, place, config, tried[-1])], []
    left_out = []
    for row in rows:
        if not row.fits:
            needed, room = compare_bytes(row.peak, place.budget(planner.profile))
            left_out.append(
                f"ONNX {row.quantisation} is skipped: it needs {needed},"
                f" and {place.title} has {room} for a model"
            )
    return fitting, left_out


def refusal(config: Config, kind: OnnxQuantisation) -> PitoolError | None:
    """Return why a checkpoint can be neither written nor exported at a quantisation, or None."""
    if is_encoder(config):
        return BadInput(
            f"{config.path.parent} is a model for embeddings, and the ONNX engine has no vectors",
            "use --format gguf",
        )
    return (writer_refusal if supported(config) else export.refusal)(config, kind)


def _named(planner: Planner, place: Place, config: Config, kind: OnnxQuantisation) -> Row:
    """Return the row of what was asked for; raises where it cannot be made or does not fit."""
    if wrong := refusal(config, kind):
        raise wrong
    row = planner.row(kind, place)
    planner.require(row)
    return row

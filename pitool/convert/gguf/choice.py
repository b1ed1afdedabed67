"""Which GGUF quantisations a conversion makes: those that are named, or what suits the place.

Owns what is refused of them, and what is said of the grids that they keep.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import inf

from pitool.catalog.tables import names_in
from pitool.catalog.tensor_types import Quantisation, find_quantisation
from pitool.convert.gguf import grids
from pitool.convert.gguf.fitting import FIT, Fitting
from pitool.convert.gguf.grids import Found
from pitool.errors import BadInput
from pitool.planning.formats import GGUF
from pitool.planning.formats.base import PlannedModel
from pitool.planning.formats.gguf import GgufPlan
from pitool.planning.planner import AUTO, Row
from pitool.planning.type_mixture import lies_on

SOLVED = "the types of its tensors are solved for: no more bytes, no less speed, and less is lost"


def plan_gguf(
    fitting: Fitting,
    quantisations: str,
    own: Quantisation | None,
    found: Found | None,
    *,
    solves: bool = False,
) -> tuple[list[Row], str, Fitting]:
    """Return the rows that a conversion makes, each fitting, and what is to be said of them.

    ``own``: the type of the GGUF that is converted, None for a checkpoint; ``found``: the matrices
    that seem to lie on grids, None where the weights are not at hand. ``solves``: there is time to
    solve for the types in place of those that ``auto`` takes. Third is what solves for them.
    """
    planner, place = fitting.planner, fitting.place
    if quantisations == AUTO:
        row, said = planner.choose(place)
        if solves and (solved := _solved(fitting, row)):
            fitting, row = solved
            said = f"{said}\n{SOLVED}"
        rows = [row]
    else:
        names = dict.fromkeys(name.upper() for name in names_in(quantisations))
        rows, said = [_row(fitting, name, own) for name in names], ""
    for row in rows:
        planner.require(row)
        kind = row.artifact.quantisation
        if found is not None and kind != own:
            assert isinstance(kind, Quantisation)
            check_trained(kind, planner.model)
    words = "\n".join(filter(None, (said, *dict.fromkeys(_lines(rows, found or {})))))
    return rows, words, fitting


def _solved(fitting: Fitting, row: Row) -> tuple[Fitting, Row] | None:
    """Return what solves for types of no more bytes and no less speed, and its row.

    None where there is nothing to gain: for floats and 8 bits, and for weights on a grid of theirs.
    """
    kind = row.artifact.quantisation
    given = [each for each, _ in GGUF.given(fitting.planner.model)]
    if not isinstance(kind, Quantisation) or not kind.quantised or kind in given:
        return None
    if kind.base == "Q8_0" or not row.fits or fitting.planner.model.shape.encoder:
        return None
    target = None if row.slowest == inf else row.slowest
    same = replace(fitting, bytes=row.artifact.bytes, target=target)
    return same, same.planned()


def _row(fitting: Fitting, name: str, own: Quantisation | None) -> Row:
    if name == FIT.name:
        return fitting.planned()
    kind = own if own and own.name == name else find_quantisation(name)
    return fitting.planner.row(kind, fitting.place)


def check_trained(kind: Quantisation, model: PlannedModel) -> None:
    """Raise BadInput for a type that a model is trained for, and this one was not."""
    if kind.trained and not lies_on(model.shape, model.grids, kind.base):
        raise BadInput(
            f"{kind.name} is for models that were trained for it, and the weights of this one do"
            " not lie on its grid",
            "choose a larger --quant, such as Q2_K or Q4_K_M",
        )


def _lines(rows: Sequence[Row], found: Found) -> Iterator[str]:
    for row in rows:
        assert isinstance(row.artifact, GgufPlan)
        yield grids.describe(found, row.artifact.tensors)

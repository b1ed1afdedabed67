"""The one sentence with which a plan that does not fit is refused."""

from __future__ import annotations

from collections.abc import Iterable

from pitool.errors import DoesNotFit
from pitool.planning.plan import Planner, Row, Verdict
from pitool.planning.plan_onnx import OnnxRow
from pitool.report.numbers import format_bytes


def require(planner: Planner, row: Row | OnnxRow, remedies: Iterable[str]) -> None:
    """Raise DoesNotFit for what does not fit or is tight, with the numbers and what would help."""
    if row.verdict is Verdict.FITS:
        return
    remedies = list(remedies)
    verb = "is tight" if row.verdict is Verdict.TIGHT else "does not fit"
    raise DoesNotFit(
        f"{row.artifact.quantisation.name} with {row.artifact.context} tokens of context {verb}:"
        f" it needs {format_bytes(row.peak)}, {row.place.name} has"
        f" {format_bytes(row.place.budget(planner.profile))} for a model",
        f"{' or '.join(remedies)} would fit" if remedies else "take a smaller model",
    )

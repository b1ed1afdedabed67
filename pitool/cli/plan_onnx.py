"""ONNX in ``pitool plan``: a report of its own with the sums, or verdicts beside GGUF's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pitool.cli.plan_request import Report
from pitool.cli.plan_show import gigabytes, head
from pitool.cli.sections import Section
from pitool.errors import UsageError
from pitool.spec.onnx_weights import ONNX_QUANTISATIONS, find_onnx_quantisation
from pitool.spec.plan import Place, judge
from pitool.spec.plan_onnx import OnnxPlan, onnx_artifact
from pitool.spec.tables import names_in

SUMMED = ("FP16", "INT8", "INT4")
BESIDE = ("INT8", "INT4")


def rows(report: Report) -> list[OnnxPlan]:
    """Return the artifacts that are asked for, or one of each kind; UsageError for experts."""
    shape, load = report.subject.shape, report.planner.load
    if shape.experts:
        raise UsageError("a mixture of experts has no ONNX writer", "plan it with --format gguf")
    names = names_in(report.options.quant or "")
    kinds = [find_onnx_quantisation(n) for n in names] or ONNX_QUANTISATIONS.values()
    return [onnx_artifact(shape, kind, load) for kind in kinds]


def sections(report: Report) -> Iterator[Section]:
    """Yield the sums and the verdicts."""
    found = rows(report)
    yield head(report)
    summed = (
        found[:4] if report.options.quant else [r for r in found if r.quantisation.name in SUMMED]
    )
    columns = [{line.name: gigabytes(line.bytes) for line in r.memory.lines} for r in summed]
    labels = dict.fromkeys(label for column in columns for label in column)
    table = [[k, *(c.get(k, "-") for c in columns)] for k in labels]
    table.append(["sum, while it runs", *(gigabytes(r.memory.total) for r in summed)])
    yield Section("Memory in GB (1e9 bytes)", ["", *(r.quantisation.name for r in summed)], table)
    yield _verdicts(report, found)


def shown_beside(report: Report) -> bool:
    """Tell whether a report on GGUF has ONNX's verdicts too: where no format was named."""
    return report.options.both and not report.subject.shape.experts


def beside(report: Report) -> Iterator[Section]:
    """Yield the verdicts of the usual quantisations, in a report on GGUF."""
    if shown_beside(report):
        found = [r for r in rows(report) if r.quantisation.name in BESIDE]
        section = _verdicts(report, found)
        yield replace(section, notes=[*section.notes, "--format onnx has the sums"])


def _verdicts(report: Report, found: list[OnnxPlan]) -> Section:
    return Section(
        "Verdicts under onnxruntime: fits, tight or no, and the GB left or missing",
        ["quant", "size", *(p.name for p in report.places)],
        [
            [
                r.quantisation.name,
                gigabytes(r.bytes),
                *(_cell(report, r, place) for place in report.places),
            ]
            for r in found
        ],
        ["no speed is predicted: no figure of onnxruntime on these boards is published"],
    )


def _cell(report: Report, row: OnnxPlan, place: Place) -> str:
    needed = row.memory.total
    verdict = judge(needed, place, report.planner.profile)
    return f"{verdict.value} {abs(place.room - needed) / 1e9:.1f}"


def document(report: Report) -> dict[str, Any]:
    """Return every number."""
    return {
        "model": report.subject.name,
        "format": "onnx",
        "context": report.planner.load.context,
        "rows": rows_json(report),
    }


def rows_json(report: Report) -> list[dict[str, Any]]:
    """Return the numbers of each artifact at each place."""
    profile = report.planner.profile
    return [
        {
            "quantisation": row.quantisation.name,
            "place": place.name,
            "bytes": row.bytes,
            "memory": {line.name: line.bytes for line in row.memory.lines},
            "memory_bytes": row.memory.total,
            "verdict": judge(row.memory.total, place, profile).value,
            "left_bytes": place.room - row.memory.total,
        }
        for row in rows(report)
        for place in report.places
    ]

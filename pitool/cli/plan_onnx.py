"""The report of ``pitool plan --format onnx``: sums and verdicts of the ONNX quantisations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pitool.cli.plan_request import Report
from pitool.cli.plan_show import gigabytes, head
from pitool.cli.sections import Section
from pitool.errors import UsageError
from pitool.spec.onnx_weights import ONNX_QUANTISATIONS, find_onnx_quantisation
from pitool.spec.plan import Place, judge
from pitool.spec.plan_onnx import OnnxPlan, onnx_artifact

SUMMED = ("FP16", "INT8", "INT4")


def rows(report: Report) -> list[OnnxPlan]:
    """Return the artifacts that are asked for, or one of each kind; UsageError for experts."""
    shape, load = report.subject.shape, report.planner.load
    if shape.experts:
        raise UsageError("a mixture of experts has no ONNX writer", "plan it with --format gguf")
    names = [n for n in (report.options.quant or "").split(",") if n.strip()]
    kinds = [find_onnx_quantisation(n.strip()) for n in names] or ONNX_QUANTISATIONS.values()
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
    yield Section(
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
    profile = report.planner.profile
    return {
        "model": report.subject.name,
        "format": "onnx",
        "context": report.planner.load.context,
        "rows": [
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
        ],
    }

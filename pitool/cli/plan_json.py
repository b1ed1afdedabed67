"""The report of ``pitool plan`` as one JSON document, with every number."""

from __future__ import annotations

from typing import Any

from pitool.cli import plan_market, plan_onnx, plan_ways
from pitool.cli.plan_request import Report
from pitool.planning.plan import Row


def document(report: Report) -> dict[str, Any]:
    """Return every number of the report."""
    shape, planner = report.subject.shape, report.planner
    return {
        "model": report.subject.name,
        "typical": report.subject.typical,
        "architecture": shape.architecture,
        "parameters": shape.parameters,
        "trained_context": shape.context,
        "context": planner.load.context,
        "kv_type": planner.load.kv_type,
        "micro_batch": planner.load.micro_batch,
        "reason": report.reason,
        "notes": list(report.notes),
        "rows": [_row_json(report, row) for row in report.rows],
        "onnx_rows": plan_onnx.rows_json(report) if plan_onnx.shown_beside(report) else [],
        **plan_ways.to_json(report),
        **plan_market.to_json(report),
    }


def _row_json(report: Report, row: Row) -> dict[str, Any]:
    artifact = row.artifact
    return {
        "quantisation": artifact.quantisation.name,
        "place": row.place.name,
        "tier": row.place.tier,
        "bytes": artifact.bytes,
        "bits_per_weight": artifact.bits_per_weight,
        "memory": {line.name: line.bytes for line in artifact.memory.lines},
        "memory_bytes": artifact.memory.total,
        "peak_bytes": row.peak,
        "room_bytes": row.place.room,
        "budget_bytes": row.place.budget(report.planner.profile),
        "verdict": row.verdict.value,
        "left_bytes": row.left,
        "longest_context": row.longest_context,
        "would_fit": report.planner.remedies(row),
        "speed": {e.board: e.to_json() for e in artifact.estimates},
    }

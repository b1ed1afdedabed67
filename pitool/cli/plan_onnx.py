"""ONNX in ``pitool plan``: a report of its own with the sums, or verdicts beside GGUF's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pitool.catalog.tables import names_in
from pitool.cli.plan_request import Report
from pitool.cli.plan_show import cell, gigabytes, head, loads, rate, unpredicted
from pitool.errors import DoesNotFit, UsageError
from pitool.planning.onnx_weights import ONNX_QUANTISATIONS, find_onnx_quantisation
from pitool.planning.plan import Verdict
from pitool.planning.plan_onnx import OnnxRow, onnx_remedies, onnx_row
from pitool.planning.speed import Estimate
from pitool.planning.speed_onnx import ASSUMED
from pitool.report.numbers import format_bytes
from pitool.report.tables import Section

SUMMED = ("FP16", "INT8", "INT4")
BESIDE = ("INT8", "INT4")


def check(report: Report) -> None:
    """Raise UsageError for what only a report on GGUF has."""
    options = report.options
    wanted = {
        "--buy": options.buy,
        "--rent": options.rent,
        "--target-tps": options.target_tps,
        "--plot": options.plot,
    }
    if asked := [flag for flag, value in wanted.items() if value]:
        raise UsageError(f"{asked[0]} is of GGUF alone", "leave the ONNX format and names away")


def rows(report: Report) -> list[OnnxRow]:
    """Return each artifact, those asked for or one of each kind, at each place.

    UsageError for a mixture of experts.
    """
    if report.subject.shape.experts:
        raise UsageError("a mixture of experts has no ONNX writer", "plan it with --format gguf")
    names = names_in(report.options.quant or "")
    kinds = [find_onnx_quantisation(n) for n in names] or ONNX_QUANTISATIONS.values()
    return [onnx_row(report.planner, kind, place) for kind in kinds for place in report.places]


def require(report: Report) -> None:
    """Raise DoesNotFit when all of what was named, at a place that was named, does not fit."""
    options = report.options
    if not options.quant or not (options.ram or options.board):
        return
    found = rows(report)
    if any(map(loads, found)):
        return
    row = found[-1]
    remedies = list(onnx_remedies(report.planner, row))
    raise DoesNotFit(
        f"{row.artifact.quantisation.name} does not fit {row.place.name} by"
        f" {format_bytes(-row.left)}",
        f"{' or '.join(remedies)} would fit" if remedies else "take a smaller model",
    )


def sections(report: Report) -> Iterator[Section]:
    """Yield the sums, the verdicts, the contexts and the speeds."""
    found = rows(report)
    yield head(report)
    yield _memory(report, found)
    yield _verdicts(report, found)
    yield _contexts(report, found)
    yield _speeds(report, found)


def shown_beside(report: Report) -> bool:
    """Tell whether a report on GGUF has ONNX's verdicts too: where no format was named."""
    return report.options.both and not report.subject.shape.experts


def beside(report: Report) -> Iterator[Section]:
    """Yield verdicts and speeds of the usual quantisations, in a report on GGUF."""
    if shown_beside(report):
        found = [r for r in rows(report) if r.artifact.quantisation.name in BESIDE]
        section = _verdicts(report, found)
        yield replace(section, notes=[*section.notes, "--format onnx has the sums"])
        yield _speeds(report, found)


def _memory(report: Report, found: list[OnnxRow]) -> Section:
    place = report.places[-1]
    here = [r for r in found if r.place == place]
    if not report.options.quant:
        here = [r for r in here if r.artifact.quantisation.name in SUMMED]
    made = [r.artifact for r in here[:4]]
    columns = [{line.name: gigabytes(line.bytes) for line in r.memory.lines} for r in made]
    labels = dict.fromkeys(label for column in columns for label in column)
    table = [[k, *(c.get(k, "-") for c in columns)] for k in labels]
    table.append(["sum, while it runs", *(gigabytes(r.memory.total) for r in made)])
    room = f"{place.name} has {gigabytes(place.room)} GB"
    free = gigabytes(place.room - place.budget(report.planner.profile))
    return Section(
        f"Memory in GB (1e9 bytes), at {place.name}",
        ["", *(r.quantisation.name for r in made)],
        table,
        [
            f"{room} after the operating system and the GPU; {free} GB of it stay free",
            "prepacked copies: onnxruntime lays every matrix out anew and lets the file's pages go",
        ],
    )


def _verdicts(report: Report, found: list[OnnxRow]) -> Section:
    return Section(
        "Verdicts under onnxruntime: fits, tight or no, and the GB left or missing",
        ["quant", "size", *(p.name for p in report.places)],
        [
            [name, gigabytes(rows[0].artifact.bytes), *map(cell, rows)]
            for name, rows in _by_quantisation(found)
        ],
        list(_remedies(report, found)) if len(report.places) == 1 else [],
    )


def _remedies(report: Report, found: list[OnnxRow]) -> Iterator[str]:
    for row in found:
        would = list(onnx_remedies(report.planner, row))
        if row.verdict is not Verdict.FITS and would:
            name = f"{row.artifact.quantisation.name} on {row.place.name}"
            yield f"{name} would fit with {' or '.join(would)}"


def _contexts(report: Report, found: list[OnnxRow]) -> Section:
    return Section(
        "Longest context that fits, in tokens",
        ["quant", *(p.name for p in report.places)],
        [
            [name, *(str(r.longest_context or "-") for r in rows)]
            for name, rows in _by_quantisation(found)
        ],
    )


def _by_quantisation(found: list[OnnxRow]) -> Iterator[tuple[str, list[OnnxRow]]]:
    for name in dict.fromkeys(r.artifact.quantisation.name for r in found):
        yield name, [r for r in found if r.artifact.quantisation.name == name]


def _speeds(report: Report, found: list[OnnxRow]) -> Section:
    """Boards of equal speed share a row; what loads on none of a board's sizes is a dash."""
    loading = list(filter(loads, found))
    by_name = {
        (e.board, r.artifact.quantisation.name): e for r in loading for e in r.artifact.estimates
    }
    names = [name for name, _ in _by_quantisation(found)]
    shown = [n for n in names if n in SUMMED] or names[:4]
    groups: dict[tuple[str, ...], list[str]] = {}
    for board in dict.fromkeys(board for board, _ in by_name):
        speeds = tuple(_range(by_name.get((board, name))) for name in shown)
        groups.setdefault(speeds, []).append(board)
    return Section(
        "Assumed tokens/s of decode under onnxruntime, slowest to fastest",
        ["board", *shown],
        [[", ".join(boards), *speeds] for speeds, boards in groups.items()],
        [f"{ASSUMED}; the range is wide, and a bench on the board corrects it"]
        if groups
        else [unpredicted(report)],
    )


def _range(found: Estimate | None) -> str:
    return "-".join(map(rate, found.decode_range)) if found else "-"


def document(report: Report) -> dict[str, Any]:
    """Return every number."""
    return {
        "model": report.subject.name,
        "format": "onnx",
        "context": report.planner.load.context,
        "notes": [*report.notes, ASSUMED],
        "rows": rows_json(report),
    }


def rows_json(report: Report) -> list[dict[str, Any]]:
    """Return the numbers of each artifact at each place."""
    return [
        {
            "quantisation": row.artifact.quantisation.name,
            "place": row.place.name,
            "bytes": row.artifact.bytes,
            "bits_per_weight": row.artifact.bits_per_weight,
            "memory": {line.name: line.bytes for line in row.artifact.memory.lines},
            "memory_bytes": row.artifact.memory.total,
            "verdict": row.verdict.value,
            "left_bytes": row.left,
            "longest_context": row.longest_context,
            "would_fit": list(onnx_remedies(report.planner, row)),
            "assumed_speed": {e.board: e.to_json() for e in row.artifact.estimates},
        }
        for row in rows(report)
    ]

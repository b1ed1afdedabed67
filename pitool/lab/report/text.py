"""The comparison as JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from typing import Any

from pitool.lab.report.columns import columns, shown
from pitool.lab.row import Comparison
from pitool.lab.verdicts import recommend, size_front, speed_front


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Return everything that was measured and what follows from it, as JSON values."""
    values = asdict(comparison)
    for row, value in zip(comparison.rows, values["rows"], strict=True):
        value["compression"] = comparison.compression(row) if row.done else None
        value["fits"] = comparison.fits(row) if row.done else None
    return {
        **values,
        "size_front": [row.technique for row in size_front(comparison)],
        "speed_front": [row.technique for row in speed_front(comparison)],
        "recommendations": [asdict(each) for each in recommend(comparison)],
    }


def to_csv(comparison: Comparison) -> str:
    """Return a line a technique with the figures as they are; empty where there is none."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    wanted = columns(comparison)
    writer.writerow([*(column.key for column in wanted), "note", "error"])
    for row in comparison.rows:
        cells = [column.value(comparison, row) if row.done else None for column in wanted[1:]]
        writer.writerow([row.technique, *cells, row.note, row.error])
    return buffer.getvalue()


def to_markdown(comparison: Comparison) -> str:
    """Return the table, what failed, and the recommendations."""
    wanted = columns(comparison)
    lines = [
        about(comparison),
        "",
        f"| {' | '.join(column.heading for column in wanted)} |",
        f"|---|{'---:|' * (len(wanted) - 2)}---|",
    ]
    for row in comparison.done:
        lines.append(f"| {' | '.join(shown(c, comparison, row) for c in wanted)} |")
    if failed := [row for row in comparison.rows if not row.done]:
        lines += ["", "Not made:", ""]
        lines += [f"- `{row.technique}`: {row.error}." for row in failed]
    lines += ["", "Recommended:", ""]
    for each in recommend(comparison):
        name = f"`{each.technique}`" if each.technique else "none"
        lines.append(f"- {each.use}: {name} ({each.reason}). Rule: {each.rule}.")
    return "\n".join(lines) + "\n"


def about(comparison: Comparison) -> str:
    """Return one paragraph on what was measured, on what and where."""
    versions = ", ".join(f"{name} {version}" for name, version in comparison.versions.items())
    fit = f" Memory is held against {comparison.tier}." if comparison.tier else ""
    return (
        f"{comparison.model}, {comparison.parameters / 1e6:,.2f} M weights;"
        f" {comparison.tokens} predictions on {comparison.text}, calibrated with"
        f" {comparison.calibration}, {len(comparison.prompts)} prompts;"
        f" {comparison.machine}, {comparison.threads} threads; {versions}.{fit}"
    )

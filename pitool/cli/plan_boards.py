"""``pitool plan --boards``: one model over several boards, beforehand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pitool.planning.cluster import ClusterPlan
    from pitool.planning.cluster_report import ClusterReport
    from pitool.planning.formats.base import PlannedModel
    from pitool.planning.report import Options
    from pitool.report.tables import Section


def show(
    options: Options, model: PlannedModel, names: str, mbit: float | None, *, as_json: bool
) -> None:
    """Print what fits over boards; DoesNotFit where what was named does not."""
    from pitool.planning.cluster_report import make_cluster_report
    from pitool.report import tables

    report = make_cluster_report(options, model, names, mbit)
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
    else:
        tables.show(sections(report))
    report.require()


def sections(report: ClusterReport) -> list[Section]:
    """Return the table of quantisations, and the split of the one that is shown."""
    from pitool.report.numbers import NONE, format_bytes, format_gigabytes, format_speed
    from pitool.report.tables import Section

    rows = [
        [
            row.quantisation,
            format_gigabytes(row.bytes),
            "fits" if row.plan.fits else f"lacks {format_bytes(row.plan.missing)}",
            format_speed(row.plan.decode),
            format_speed(row.plan.prefill) if row.plan.prefill else NONE,
        ]
        for row in report.rows
    ]
    boards = ", ".join(node.name for node in report.nodes)
    title = f"{report.model.name} over {boards}, {report.load.context} tokens of context"
    table = Section(
        title,
        ("quantisation", "GB", "", "decode t/s", "prefill t/s"),
        rows,
        bold={report.rows.index(report.shown)},
    )
    return [table, _split(report)]


def _split(report: ClusterReport) -> Section:
    from pitool.planning.memory import KV_CACHE
    from pitool.report.numbers import format_gigabytes
    from pitool.report.tables import Section

    plan, rows = report.shown.plan, []
    for share in plan.shares:
        known = {line.name: line.bytes for line in share.memory}
        weights, cache = known.get("weights", 0), known.get(KV_CACHE, 0)
        parts = (weights, cache, share.total - weights - cache, share.total, share.node.room)
        rows.append([share.node.name, share.layer_names, *map(format_gigabytes, parts)])
    return Section(
        f"{report.shown.quantisation}: which layers go where, in GB",
        ("board", "layers", "weights", "KV cache", "other", "sum", "of"),
        rows,
        _notes(report, plan),
        left=2,
    )


def _notes(report: ClusterReport, plan: ClusterPlan) -> list[str]:
    from pitool.report.numbers import format_bytes, format_fixed, format_rate, format_seconds

    notes = []
    if not plan.servers:
        notes.append(f"{plan.shares[0].node.name} holds it alone, and is the fastest that way")
    else:
        network = sum(s.node.link.seconds(s.token_bytes) for s in plan.servers if s.node.link)
        low, high = (format_fixed(rate, 1) for rate in report.decode_range)
        waits = format_fixed(network * 1e3, 1), format_fixed(plan.decode_seconds * 1e3, 0)
        notes.append(
            f"decode {format_rate(plan.decode)} ({low} to {high}): a token goes through the"
            " boards one after the other, so that more boards add memory, not speed"
        )
        notes.append(
            f"{format_bytes(plan.token_bytes)} cross the network for a token, which takes"
            f" {waits[0]} ms of its {waits[1]} ms"
        )
        notes.append(
            f"the first load sends the weights, {format_seconds(plan.first_load)} over this"
            f" network; later ones {format_seconds(plan.later_load)}, for tensors of 10 MiB and"
            " more stay on the boards' disks"
        )
    if plan.unused:
        names = ", ".join(node.name for node in plan.unused)
        notes.append(f"not needed, and slower with: {names}")
    if not plan.fits:
        notes.append("add a board with more memory, or choose a smaller quantisation or --context")
    return notes

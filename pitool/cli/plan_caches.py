"""The section of ``pitool plan`` on the KV cache: what its types take and what they cost."""

from __future__ import annotations

from collections.abc import Iterator

from pitool.planning.caches import advise
from pitool.planning.report import Report
from pitool.report.numbers import format_gigabytes, format_share, format_significant
from pitool.report.tables import Column, Section


def caches(report: Report) -> Iterator[Section]:
    """Yield the types of the KV cache; nothing for a format whose cache has the graph's own."""
    advice = advise(report.planner)
    if not report.form.tunable or not any(each.bytes for each in advice.planned):
        return
    largest = max(each.bytes for each in advice.planned)
    rows = [
        [
            each.choice.types.keys,
            each.choice.types.values,
            format_gigabytes(each.bytes),
            format_share(each.bytes / largest),
            format_significant(each.choice.mean_kl),
        ]
        for each in advice.planned
    ]
    columns = [
        Column("keys", "left"),
        Column("values", "left"),
        Column("GB"),
        Column("of f16"),
        Column("mean KL"),
    ]
    whose = (
        "" if advice.own else ", another model: pitool verify BUNDLE --kv-cache measures this one"
    )
    yield Section(
        f"KV cache with {report.planner.load.context} tokens: the least loss for its size",
        columns,
        rows,
        [
            f"mean KL: what the cache adds, measured with {advice.model}{whose}",
            f"advised: --kv-type {advice.best}",
        ],
        bold={i for i, each in enumerate(advice.planned) if each.choice.types == advice.best},
    )

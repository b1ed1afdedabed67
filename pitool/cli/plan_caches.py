"""The section of ``pitool plan`` on the KV cache: what its types take and what they cost."""

from __future__ import annotations

from collections.abc import Iterator

from pitool.planning.caches import advise
from pitool.planning.report import Report
from pitool.report.numbers import NONE, format_gigabytes, format_share, format_significant
from pitool.report.tables import Column, Section

UNKNOWN = "what they cost this model is measured with pitool verify BUNDLE --kv-cache"


def caches(report: Report) -> Iterator[Section]:
    """Yield the types of the KV cache; nothing for a format whose cache has the graph's own."""
    advice = advise(report.planner)
    largest = max(each.bytes for each in advice.planned)
    if not report.form.tunable or not largest:
        return
    rows = [
        [
            each.types.keys,
            each.types.values,
            format_gigabytes(each.bytes),
            format_share(each.bytes / largest),
            format_significant(each.choice.mean_kl) if each.choice else NONE,
        ]
        for each in advice.planned
    ]
    columns = [
        Column("keys", "left"),
        Column("values", "left"),
        Column("GB"),
        Column("of f16"),
        Column("KL"),
    ]
    notes = [UNKNOWN]
    if advice.artifact:
        notes = [
            f"KL: what the cache adds beside f16, measured with {advice.artifact}",
            f"advised: --kv-type {advice.best}",
        ]
    yield Section(
        f"KV cache with {report.planner.load.context} tokens (--kv-type KEYS,VALUES)",
        columns,
        rows,
        notes,
        bold={i for i, each in enumerate(advice.planned) if each.types == advice.best},
    )

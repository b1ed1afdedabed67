"""The comparison for eyes and for programs: a table for terminals, Markdown, CSV and JSON.

Owns what a comparison tells of each result: ``METRICS`` is the one list that every form shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pitool.lab.recommendations import recommend, size_front, speed_front
from pitool.lab.result import Comparison, TechniqueResult
from pitool.report import tables
from pitool.report.numbers import format_fixed, format_millions, format_share, format_significant

MB = 1e6
LEGEND = (
    "bold: on the Pareto front of size and KL divergence; runs on none: evaluated with"
    " dequantised weights, no speeds"
)
Value = float | int | str | bool | None


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a result.

    ``key`` and ``value`` for programs, in the key's unit; ``heading`` and ``show`` for eyes;
    ``priority``: that of its column, see ``Column``; ``better``: whether more or less of it is, or
    neither.
    """

    key: str
    heading: str
    value: Callable[[Comparison, TechniqueResult], Value]
    show: Callable[[Value], str]
    explained: str
    priority: int = 0
    better: Literal["more", "less", ""] = ""

    @property
    def column(self) -> tables.Column:
        """The column of its table."""
        if self.key == "technique":
            return tables.Column(self.heading, "left", "middle")
        align: Literal["left", "right"] = "left" if self.key == "kernel" else "right"
        return tables.Column(self.heading, align, priority=self.priority)


def _fixed(digits: int) -> Callable[[Value], str]:
    return lambda value: format_fixed(float(value or 0), digits)


def _significant(value: Value) -> str:
    return format_significant(float(value or 0))


def _share(value: Value) -> str:
    return format_share(float(value or 0), 1)


def _yes_or_no(value: Value) -> str:
    return "yes" if value else "no"


def _running(name: str) -> Callable[[Comparison, TechniqueResult], Value]:
    return lambda _, row: getattr(row.running, name) if row.running else None


def _quality(name: str) -> Callable[[Comparison, TechniqueResult], Value]:
    return lambda _, row: getattr(row.quality, name) if row.quality else None


def _peak(_: Comparison, row: TechniqueResult) -> Value:
    if row.running is None or row.running.peak_memory is None:
        return None
    return row.running.peak_memory / MB


METRICS = (
    Metric("technique", "technique", lambda _, r: r.technique, str,
           "the technique's name for `--techniques`"),
    Metric("size_mb", "MB", lambda _, r: r.bytes / MB, _significant,
           "size of the files that the runtime opens, in 10^6 bytes; without a kernel, size in"
           " the technique's own format", better="less"),
    Metric("compression", "compression", lambda c, r: c.compression(r), _fixed(2),
           "bytes of FP32 divided by bytes of the row", priority=7, better="more"),
    Metric("bits_per_weight", "bits", lambda _, r: r.bits_per_weight, _fixed(2),
           "bits of all tensors, scales included, divided by the number of weights", priority=1),
    Metric("convert_seconds", "convert s", lambda _, r: r.convert_seconds, _significant,
           "seconds to convert, in a separate process", priority=8, better="less"),
    Metric("convert_memory_mb", "convert MB",
           lambda _, r: r.convert_memory / MB if r.convert_memory else None, _fixed(0),
           "peak resident memory of that process", priority=9, better="less"),
    Metric("load_seconds", "load s", _running("load_seconds"), _significant,
           "seconds until the engine is ready", priority=6, better="less"),
    Metric("peak_memory_mb", "peak MB", _peak, _fixed(0),
           "peak resident memory of the engine's process while it generates", priority=3,
           better="less"),
    Metric("prefill", "prefill", _running("prefill"), _significant,
           "prefill tokens/s with a prompt of 256 tokens, median of 5", priority=4, better="more"),
    Metric("decode", "decode", _running("decode"), _significant,
           "decode tokens/s over 64 tokens, median of 5", better="more"),
    Metric("latency_seconds", "latency s", _running("latency"), _significant,
           "mean seconds from a prompt to the end of its answer of at most 64 tokens", priority=6,
           better="less"),
    Metric("perplexity", "perplexity", _quality("perplexity"), _fixed(3),
           "on the held-out text", priority=5, better="less"),
    Metric("mean_kl", "KL", _quality("mean_kl"), _fixed(4),
           "mean KL divergence from the float32 checkpoint, nats per token", better="less"),
    Metric("top1", "top-1", _quality("top1"), _share,
           "share of tokens whose most likely prediction is the checkpoint's", better="more"),
    Metric("similarity", "alike", lambda _, r: r.similarity, _fixed(2),
           "bigram similarity between the answers and the baseline's", priority=2, better="more"),
    Metric("fits", "fits", lambda c, r: c.fits(r), _yes_or_no,
           "whether the planned memory fits the tier of --ram"),
    Metric("kernel", "runs on", lambda _, r: r.kernel if r.done else None, str,
           "the runtime with a kernel for it; none: evaluated with dequantised weights, no speed"),
)  # fmt: skip


def metrics(comparison: Comparison) -> tuple[Metric, ...]:
    """Return what is shown of a comparison: ``fits`` only where there is a tier."""
    return tuple(metric for metric in METRICS if metric.key != "fits" or comparison.tier)


def shown(metric: Metric, comparison: Comparison, row: TechniqueResult) -> str:
    """Return a cell for eyes: a dash where nothing was measured."""
    value = metric.value(comparison, row)
    if value is None:
        return "none" if metric.key == "kernel" else "-"
    return metric.show(value)


def table(comparison: Comparison) -> tables.Section:
    """Return the table of what was measured; bold is the front of size and divergence."""
    wanted = metrics(comparison)
    best = {row.technique for row in size_front(comparison)}
    return tables.Section(
        "",
        [metric.column for metric in wanted],
        [[shown(metric, comparison, row) for metric in wanted] for row in comparison.done],
        bold={i for i, row in enumerate(comparison.done) if row.technique in best},
    )


def to_sections(comparison: Comparison) -> list[tables.Section]:
    """Return what a terminal shows: on what was measured, the table, failures, and advice."""
    failed = [f"failed: {row.technique}: {row.error}" for row in comparison.rows if row.error]
    advice = [f"{r.use}: {r.technique or 'none'} ({r.reason})" for r in recommend(comparison)]
    return [
        tables.Section(about(comparison)),
        table(comparison),
        tables.Section("", notes=[LEGEND, *failed]),
        tables.Section("", notes=advice),
    ]


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
    wanted = metrics(comparison)
    rows = (
        [
            row.technique,
            *(metric.value(comparison, row) if row.done else None for metric in wanted[1:]),
            row.note,
            row.error,
        ]
        for row in comparison.rows
    )
    return tables.to_csv([*(metric.key for metric in wanted), "note", "error"], rows)


def to_markdown(comparison: Comparison) -> str:
    """Return Markdown: the table, what failed, and the recommendations with their rules."""
    lines = [about(comparison), "", tables.to_markdown([table(comparison)])]
    if failed := [row for row in comparison.rows if not row.done]:
        lines += ["", "Failed:", ""]
        lines += [f"- `{row.technique}`: {row.error}." for row in failed]
    lines += ["", "Recommended:", ""]
    for each in recommend(comparison):
        name = f"`{each.technique}`" if each.technique else "none"
        lines.append(f"- {each.use}: {name} ({each.reason}). Rule: {each.rule}.")
    return "\n".join(lines) + "\n"


def about(comparison: Comparison) -> str:
    """Return one paragraph on what was measured, on what and where."""
    versions = ", ".join(f"{name} {version}" for name, version in comparison.versions.items())
    fit = f" Memory is checked against {comparison.tier}." if comparison.tier else ""
    return (
        f"{comparison.model}, {format_millions(comparison.parameters)} weights;"
        f" {comparison.tokens} predictions on {comparison.text}, calibrated with"
        f" {comparison.calibration}, {len(comparison.prompts)} prompts;"
        f" {comparison.machine}, {comparison.threads} threads; {versions}.{fit}"
    )

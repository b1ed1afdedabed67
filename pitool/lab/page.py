"""The comparison as one HTML page with two plots; what it looks like is in ``comparison.html``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pitool.lab import output
from pitool.lab import recommendations as advice
from pitool.lab.output import Metric, Value
from pitool.lab.result import Comparison, TechniqueResult
from pitool.report import html
from pitool.report.canvas import GREY, INK, SERIES
from pitool.report.numbers import format_bytes, format_fixed, format_speed
from pitool.report.scatter import Axis, Front, Mark, Scatter

# Divergences below this are rounding; a log axis has no zero.
LEAST_KL = 1e-5
NO_KERNEL = "none"
COLOURS = {"llama.cpp": SERIES[0], "onnxruntime": SERIES[1], NO_KERNEL: GREY}
DIVERGENCE = Axis("mean KL divergence in nats per token", "less")
SIZE = Axis("size in MB", "less")
SPEED = Axis("decode in tokens/s on this machine", "more")
NOTE = "bold and dashed: the Pareto front; point at a mark for its figures"


def to_html(comparison: Comparison) -> str:
    """Return the page: plots, table, recommendations, what failed, and the answers."""
    return html.render(
        "pitool.lab",
        "comparison.html",
        title=f"Quantisation techniques on {comparison.model}",
        about=output.about(comparison),
        recommendations=advice.recommend(comparison),
        plots=[html.markup(plot.to_svg()) for plot in plots(comparison)],
        columns=[_HeadCell(metric) for metric in _metrics(comparison)],
        rows=_rows(comparison),
        comparison=comparison,
    )


@dataclass(frozen=True, slots=True)
class _HeadCell:
    """The heading of a metric's column."""

    metric: Metric

    @property
    def text(self) -> bool:
        """Whether words are below it, which begin at the left."""
        return self.metric.column.align == "left"

    @property
    def arrow(self) -> str:
        """Which way is better."""
        return {"more": "↑", "less": "↓"}.get(self.metric.better, "")


@dataclass(frozen=True, slots=True)
class _Cell:
    """``share``: of the largest figure of its column, in per cent; None for what is no figure."""

    text: str
    classes: str = ""
    share: str | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    """A technique; ``bold``: it is on the front."""

    cells: tuple[_Cell, ...]
    bold: bool


def _metrics(comparison: Comparison) -> list[Metric]:
    """Return what is shown, the columns that a narrow terminal keeps first."""
    return sorted(output.metrics(comparison), key=lambda metric: metric.priority)


def _rows(comparison: Comparison) -> list[_Row]:
    """Return the table's rows, each figure with its bar, the best of a column marked."""
    done = comparison.done
    best = {row.technique for row in advice.size_front(comparison)}
    columns = [_column(comparison, metric, done) for metric in _metrics(comparison)]
    return [
        _Row(cells, row.technique in best)
        for row, cells in zip(done, zip(*columns, strict=True), strict=True)
    ]


def _column(comparison: Comparison, metric: Metric, rows: Sequence[TechniqueResult]) -> list[_Cell]:
    """Return the cells of a metric; the baseline, which others are compared with, is never best."""
    words = [output.shown(metric, comparison, row) for row in rows]
    if not metric.better:
        kind = "text" if metric.key == "kernel" else ""
        return [_Cell(each, kind) for each in words]
    values = [_number(metric.value(comparison, row)) for row in rows]
    most = max(filter(None, values), default=1.0)
    rivals = [
        value
        for row, value in zip(rows, values, strict=True)
        if value is not None and row is not comparison.baseline
    ]
    best = (max if metric.better == "more" else min)(rivals) if len(set(rivals)) > 1 else None
    return [
        _Cell(each)
        if value is None
        else _Cell(
            each, "bar best" if value == best else "bar", format_fixed(100 * value / most, 1)
        )
        for each, value in zip(words, values, strict=True)
    ]


def _number(value: Value) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def plots(comparison: Comparison) -> Iterator[Scatter]:
    """Yield quality against size, and against speed where anything runs."""
    if comparison.done:
        front = advice.size_front(comparison)
        yield _plot("Quality against size", SIZE, comparison.done, front, lambda r: r.bytes / 1e6)
    if runs := [row for row in comparison.done if row.running]:
        front = advice.speed_front(comparison)
        yield _plot("Quality against speed", SPEED, runs, front, advice.decode)


def _plot(
    title: str,
    across: Axis,
    rows: Sequence[TechniqueResult],
    front: Sequence[TechniqueResult],
    x: Callable[[TechniqueResult], float],
) -> Scatter:
    marks = {row.technique: _mark(row, x) for row in rows}
    kernels = {row.kernel or NO_KERNEL for row in rows}
    legend = [
        ("no kernel: dequantised" if kernel == NO_KERNEL else kernel, colour, kernel == NO_KERNEL)
        for kernel, colour in COLOURS.items()
        if kernel in kernels
    ]
    fronts = [Front(INK, [marks[row.technique] for row in front])]
    return Scatter(
        title, across, DIVERGENCE, list(marks.values()), fronts, legend, note=NOTE, log=True
    )


def _mark(row: TechniqueResult, x: Callable[[TechniqueResult], float]) -> Mark:
    speed = f"{format_speed(row.running.decode)} tokens/s" if row.running else "no kernel"
    divergence = advice.mean_kl(row)
    return Mark(
        row.technique,
        max(x(row), 1e-9),
        max(divergence, LEAST_KL),
        COLOURS[row.kernel or NO_KERNEL],
        f"{row.technique}: {format_bytes(row.bytes)}, KL {format_fixed(divergence, 4)}, {speed}",
        hollow=row.kernel is None,
    )

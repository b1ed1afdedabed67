"""The comparison as one HTML page with two plots; what it looks like is in ``comparison.html``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pitool.lab import output
from pitool.lab import recommendations as advice
from pitool.lab.result import Comparison, TechniqueResult
from pitool.report import html, svg
from pitool.report.numbers import format_bytes, format_fixed, format_speed

# Divergences below this are rounding; a log axis has no zero.
LEAST_KL = 1e-5
NO_KERNEL = "none"
COLOURS = {"llama.cpp": svg.COLOURS[0], "onnxruntime": svg.COLOURS[1], NO_KERNEL: svg.GREY}
NAMES = {NO_KERNEL: "no kernel: dequantised"}
DIVERGENCE = "mean KL divergence, nats per token"


def to_html(comparison: Comparison) -> str:
    """Return the page: plots, table, recommendations, what failed, and the answers."""
    return html.render(
        "pitool.lab",
        "comparison.html",
        title=f"Quantisation techniques on {comparison.model}",
        about=output.about(comparison),
        recommendations=advice.recommend(comparison),
        plots=[html.markup(plot.to_svg()) for plot in plots(comparison)],
        metrics=output.metrics(comparison),
        table=output.table(comparison),
        comparison=comparison,
    )


def plots(comparison: Comparison) -> Iterator[svg.Scatter]:
    """Yield quality against size, and against speed where anything runs."""
    if comparison.done:
        front = advice.size_front(comparison)
        yield _plot(
            "Quality against size", "size in MB", comparison.done, front, lambda r: r.bytes / 1e6
        )
    if runs := [row for row in comparison.done if row.running]:
        front = advice.speed_front(comparison)
        across = "decode, tokens/s on this machine"
        yield _plot("Quality against speed", across, runs, front, advice.decode)


def _plot(
    title: str,
    across: str,
    rows: Sequence[TechniqueResult],
    front: Sequence[TechniqueResult],
    x: Callable[[TechniqueResult], float],
) -> svg.Scatter:
    marks = {row.technique: _mark(row, x) for row in rows}
    kernels = {row.kernel or NO_KERNEL for row in rows}
    return svg.Scatter(
        title,
        across,
        DIVERGENCE,
        list(marks.values()),
        [("#444444", [marks[row.technique] for row in front])],
        [
            (
                "no kernel: dequantised" if kernel == NO_KERNEL else kernel,
                colour,
                kernel == NO_KERNEL,
            )
            for kernel, colour in COLOURS.items()
            if kernel in kernels
        ],
        log=True,
    )


def _mark(row: TechniqueResult, x: Callable[[TechniqueResult], float]) -> svg.Mark:
    speed = f"{format_speed(row.running.decode)} tokens/s" if row.running else "no kernel"
    divergence = advice.mean_kl(row)
    return svg.Mark(
        row.technique,
        max(x(row), 1e-9),
        max(divergence, LEAST_KL),
        COLOURS[row.kernel or NO_KERNEL],
        f"{row.technique}: {format_bytes(row.bytes)}, KL {format_fixed(divergence, 4)}, {speed}",
        hollow=row.kernel is None,
    )

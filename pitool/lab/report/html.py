"""The comparison as one HTML page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape

from pitool.lab import verdicts
from pitool.lab.report.charts import Point, scatter
from pitool.lab.report.columns import columns, shown
from pitool.lab.report.text import about
from pitool.lab.row import Comparison, Row
from pitool.report.numbers import format_bytes

# Divergences below this are rounding; a log axis has no zero.
LEAST_KL = 1e-5
HOW_TO_READ = (
    "Lower is better. The dashed line is the Pareto front: nothing else is both smaller (or faster)"
    " and closer to the checkpoint. Point at a mark for its figures."
)
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; margin: 2rem auto; max-width: 76rem;
       padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p.about, td.small, caption { color: #555; font-size: .86rem; }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right;
         vertical-align: top; }
th:first-child, td:first-child, td.text { text-align: left; }
th { border-bottom: 2px solid #999; position: sticky; top: 0; background: #fff; }
tr.front td:first-child { font-weight: 600; }
td.text { white-space: pre-wrap; min-width: 16rem; max-width: 24rem; }
svg { width: 100%; max-width: 860px; height: auto; display: block; margin: 1rem 0; }
ul { padding-left: 1.2rem; } code { font-size: .92em; }
""".strip()


def to_html(comparison: Comparison) -> str:
    """Return the page: plots, table, recommendations, what failed, and the answers."""
    title = f"Quantization techniques on {comparison.model}"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="about">{escape(about(comparison))}</p>',
        "<h2>Recommended</h2>",
        _recommendations(comparison),
        "<h2>Quality against size and speed</h2>",
        f"<p>{HOW_TO_READ}</p>",
        *_plots(comparison),
        "<h2>All techniques</h2>",
        f'<div class="wide">{_table(comparison)}</div>',
        "<h2>What the columns are</h2>",
        _list(f"<b>{escape(c.heading)}</b>: {escape(c.explained)}" for c in columns(comparison)),
        "<h2>What the techniques do</h2>",
        _list(_effect(row) for row in comparison.rows),
        *_failed(comparison),
        "<h2>Answers</h2>",
        *_answers(comparison),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _plots(comparison: Comparison) -> list[str]:
    plots = []
    if comparison.done:
        plots.append(
            scatter(
                "Quality against size",
                "size in MB",
                "mean KL divergence, nats a token",
                _points(comparison.done, lambda row: row.bytes / 1e6),
                [row.technique for row in verdicts.size_front(comparison)],
            )
        )
    runs = [row for row in comparison.done if row.running]
    if runs:
        front = [row.technique for row in verdicts.speed_front(comparison)]
        plots.append(
            scatter(
                "Quality against speed",
                "decode, tokens/s on this machine",
                "mean KL divergence, nats a token",
                _points(runs, verdicts.decode),
                front,
            )
        )
    return plots


def _points(rows: Sequence[Row], x: Callable[[Row], float]) -> list[Point]:
    return [
        Point(
            row.technique,
            max(x(row), 1e-9),
            max(verdicts.mean_kl(row), LEAST_KL),
            row.kernel or "none",
            f"{row.technique}: {format_bytes(row.bytes)}, KL {verdicts.mean_kl(row):.4f}"
            + (f", {row.running.decode:.0f} tokens/s" if row.running else ", no kernel"),
        )
        for row in rows
    ]


def _table(comparison: Comparison) -> str:
    wanted = columns(comparison)
    head = "".join(
        f'<th title="{escape(column.explained)}">{escape(column.heading)}</th>' for column in wanted
    )
    best = {row.technique for row in verdicts.size_front(comparison)}
    lines = [f"<table><thead><tr>{head}</tr></thead><tbody>"]
    for row in comparison.done:
        cells = "".join(f"<td>{escape(shown(c, comparison, row))}</td>" for c in wanted)
        mark = ' class="front"' if row.technique in best else ""
        lines.append(f"<tr{mark}>{cells}</tr>")
    lines.append("</tbody></table><p>Bold: on the Pareto front of size and divergence.</p>")
    return "\n".join(lines)


def _recommendations(comparison: Comparison) -> str:
    return _list(
        f"<b>{escape(each.use)}</b>: "
        + (f"<code>{escape(each.technique)}</code>, " if each.technique else "")
        + f"{escape(each.reason)}. <small>Rule: {escape(each.rule)}.</small>"
        for each in verdicts.recommend(comparison)
    )


def _effect(row: Row) -> str:
    note = f" <small>{escape(row.note)}.</small>" if row.note else ""
    return (
        f"<code>{escape(row.technique)}</code>: {escape(row.effect)}"
        f" <small>{escape(row.source)}.</small>{note}"
    )


def _failed(comparison: Comparison) -> list[str]:
    failed = [row for row in comparison.rows if not row.done]
    if not failed:
        return []
    return [
        "<h2>Not made</h2>",
        _list(f"<code>{escape(r.technique)}</code>: {escape(r.error or '')}" for r in failed),
    ]


def _answers(comparison: Comparison) -> list[str]:
    """Return a table with a line a technique and a column a prompt, equal answers named so."""
    base = comparison.baseline
    if base is None:
        return []
    head = "".join(f"<th>{escape(prompt)}</th>" for prompt in comparison.prompts)
    lines = [f"<table><thead><tr><th>technique</th>{head}</tr></thead><tbody>"]
    for row in comparison.done:
        cells = "".join(
            '<td class="text small">the same</td>'
            if row is not base and text == original
            else f'<td class="text">{escape(text)}</td>'
            for text, original in zip(row.answers, base.answers, strict=True)
        )
        lines.append(f"<tr><td><code>{escape(row.technique)}</code></td>{cells}</tr>")
    lines.append("</tbody></table>")
    return [f'<div class="wide">{"".join(lines)}</div>']


def _list(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>"

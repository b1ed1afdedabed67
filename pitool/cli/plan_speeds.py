"""The sections of ``pitool plan`` on speed: plain, with guessed tokens, and until a first token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pitool.catalog.task_kinds import task_kinds
from pitool.planning import answer
from pitool.planning.formats.base import PlannedFormat
from pitool.planning.planner import Row
from pitool.planning.report import Report, usual_row
from pitool.planning.speculating import speculative_decodes
from pitool.planning.speed import Estimate
from pitool.report.numbers import (
    format_bytes,
    format_range,
    format_seconds,
    format_share,
    format_speed,
)
from pitool.report.tables import Section

# The smallest model of benchmarks/published.toml has 268 million weights.
SMALLEST_PUBLISHED = 250e6
# Columns of a table of speeds where none of the usual names is among them.
MOST_TIMED = 5


def speeds(report: Report, form: PlannedFormat, rows: Sequence[Row]) -> Section:
    """Boards of equal speed share a row; what loads on none of a board's sizes is a dash."""
    found = {
        (e.board, row.quantisation): e for row in rows if row.loads for e in row.artifact.estimates
    }
    names = list(dict.fromkeys(row.quantisation for row in rows))
    shown = [n for n in names if n in form.timed] or names[: MOST_TIMED - bool(form.assumed)]
    reads = report.model.shape.encoder
    speed = _range if form.assumed else _reading if reads else _both
    groups: dict[tuple[str, ...], list[str]] = {}
    for board in dict.fromkeys(board for board, _ in found):
        speeds = tuple(speed(found.get((board, name))) for name in shown)
        groups.setdefault(speeds, []).append(board)
    title = f"Predicted tokens/s, {'reading' if reads else 'prefill/decode'}"
    trust: Sequence[str] = ()
    if form.assumed:
        title = f"Assumed decode tokens/s with {form.runtime}, slowest to fastest"
        trust = [f"{form.assumed}; the range is wide; measure on the board with pitool bench"]
    elif groups:
        trust = list(_trust(report, shown))
    return Section(
        title,
        ["board", *shown],
        [[", ".join(boards), *speeds] for speeds, boards in groups.items()],
        trust if groups else [_unpredicted(report)],
    )


def speculative(report: Report) -> Iterator[Section]:
    """Yield what guessed tokens make of the decode of what is usually taken."""
    row = usual_row(row for row in report.rows if row.loads and row.artifact.estimates)
    if row is None or not report.form.by_bits:
        return
    shape = report.model.shape
    found = {e.board: speculative_decodes(shape, e) for e in row.artifact.estimates}
    kinds = list(next(iter(found.values())))
    if not kinds:
        return
    groups: dict[tuple[str, ...], list[str]] = {}
    for board, ranges in found.items():
        groups.setdefault(tuple(format_range(ranges[kind]) for kind in kinds), []).append(board)
    yield Section(
        f"Decode of {row.quantisation} with guessed tokens, tokens/s by kind of text",
        ["board", *kinds],
        [[", ".join(boards), *cells] for cells, boards in groups.items()],
        ["; ".join(f"{kind}: {task_kinds()[kind].summary}" for kind in kinds)],
    )


def drafts(report: Report) -> Iterator[Section]:
    """Yield which draft models would guess for what is usually taken, and what that makes of it."""
    found, row = report.drafts(), report.usual
    if not found or row is None:
        return
    boards = [each.board for each in row.artifact.estimates]
    yield Section(
        f"Decode of {row.quantisation} with a draft model on {row.place.title}, tokens/s",
        ["--draft", "quant", "memory", *boards],
        [
            [
                each.name,
                each.quantisation,
                format_bytes(each.memory),
                *(format_range(each.decodes[board]) for board in boards),
            ]
            for each in found
        ],
        ["memory: what the model's process needs more"],
    )


def waiting(report: Report) -> Section:
    """Return how long a prompt waits: read anew with each quantisation, and read before."""
    form, tokens = report.form, report.options.prompt
    found = {(w.board, w.quantisation): w for row in report.rows for w in report.waiting(row)}
    names = list(dict.fromkeys(name for _, name in found))
    shown = [name for name in names if name in form.timed] or names[: MOST_TIMED - 1]
    table = []
    for board in dict.fromkeys(board for board, _ in found):
        each = [found.get((board, name)) for name in shown]
        saved = next(filter(None, each)).saved_seconds
        read = [format_seconds(saved[name]) if name in saved else "-" for name in answer.MEDIA]
        table.append([board, *(format_seconds(w.seconds) if w else "-" for w in each), *read])
    size = next((format_bytes(w.saved_bytes) for w in found.values()), "")
    note = (
        f"a quantisation: the prompt is read; NVMe, USB, SD: it was read before (pitool prefill),"
        f" and {size} come from there"
    )
    return Section(
        f"How long a prompt of {tokens} tokens waits",
        ["board", *shown, "NVMe", "USB", "SD"],
        table,
        [note] if table else [_unpredicted(report)],
    )


def _range(found: Estimate | None) -> str:
    return format_range(found.decode_range) if found else "-"


def _reading(found: Estimate | None) -> str:
    return format_speed(found.prefill) if found else "-"


def _both(found: Estimate | None) -> str:
    return f"{format_speed(found.prefill)}/{format_speed(found.decode)}" if found else "-"


def _unpredicted(report: Report) -> str:
    """Say why there are no speeds."""
    if any(place.boards for place in report.places):
        return "it does not fit any board"
    return answer.UNPREDICTED


def _trust(report: Report, names: list[str]) -> Iterator[str]:
    """Say how far predictions may be off, and what a decode waits for."""
    found = {(e.board, row.quantisation): e for row in report.rows for e in row.artifact.estimates}
    loading = list(
        dict.fromkeys(board for row in report.rows if row.loads for board in row.place.boards)
    )
    errors = sorted({(found[b, names[0]].decode_error, found[b, names[0]].prefill_error)
                     for b in loading})  # fmt: skip
    for decode, prefill in errors:
        boards = [b for b in loading if found[b, names[0]].decode_error == decode]
        within = f"prefill within {format_share(prefill)}"
        if not report.model.shape.encoder:
            within = f"decode within {format_share(decode)}, {within}"
        yield f"{', '.join(boards)}: {within}"
    if not report.model.shape.encoder:
        yield from _limits(found, loading, names)
    if report.model.shape.parameters < SMALLEST_PUBLISHED:
        yield (
            "no speeds of such small models are published; real speeds are lower, because costs per"
            " token other than reading the weights matter"
        )


def _limits(
    found: Mapping[tuple[str, str], Estimate], loading: Sequence[str], names: Sequence[str]
) -> Iterator[str]:
    """Say what a decode waits for on the boards."""
    waiting: dict[str, list[str]] = {}
    for board in loading:
        slow = [name for name in names if found[board, name].bound == "products"]
        if slow:
            waiting.setdefault(", ".join(slow), []).append(board)
    for slow_names, boards in waiting.items():
        yield f"{', '.join(boards)}: decode of {slow_names} is limited by arithmetic"
    subject = "all other decode" if waiting else "decode"
    yield f"{subject} is limited by memory bandwidth"

"""The sections of ``pitool plan`` on memory, verdicts and speed."""

from __future__ import annotations

from collections.abc import Iterator

from pitool.cli.plan_request import Report
from pitool.planning.plan import Place, Row, Verdict
from pitool.planning.plan_onnx import OnnxRow
from pitool.report.tables import Section

SUMMED = ("F16", "Q8_0", "Q4_K_M")
TIMED = ("F16", "Q8_0", "Q6_K", "Q4_K_M", "Q2_K")
# The smallest model of benchmarks/published.toml has 268 million weights.
SMALLEST_PUBLISHED = 250e6


def sections(report: Report) -> Iterator[Section]:
    """Yield what fits where, and how fast it is."""
    yield memory(report)
    if len(report.places) == 1:
        yield _one_place(report)
    else:
        yield _verdicts(report)
        yield _contexts(report)
    yield _speeds(report)


def head(report: Report) -> Section:
    """Return what is planned, and under which profile."""
    shape, planner = report.subject.shape, report.planner
    kind = "typical shape" if report.subject.typical else shape.architecture
    load = planner.load
    model = (
        f"{kind}: {shape.parameters / 1e6:,.1f} million weights, {shape.layers} layers,"
        f" {shape.kv_heads} key-value head{'s' * (shape.kv_heads > 1)} of {shape.head_dim},"
        f" trained for {shape.context} tokens"
    )
    cache = "of the graph's own type" if report.options.onnx else load.kv_type
    how = (
        f"planned for {load.context} tokens of context, KV cache {cache},"
        f" batches of {load.micro_batch}; {planner.profile.summary}"
    )
    return Section(
        report.subject.name, notes=[model, how, *report.notes, *report.reason.splitlines()]
    )


def memory(report: Report) -> Section:
    """Return the sum, a column a quantisation, at the largest place."""
    names = [n for n in SUMMED if n in report.quantisations] or list(report.quantisations[:4])
    place = report.places[-1]
    rows = [r for r in report.rows if r.place == place and r.artifact.quantisation.name in names]
    columns = [{line.name: gigabytes(line.bytes) for line in r.artifact.memory.lines} for r in rows]
    labels = dict.fromkeys(label for column in columns for label in column)
    table = [[k, *(c.get(k, "-") for c in columns)] for k in labels]
    table.append(["sum, while it runs", *(gigabytes(r.artifact.memory.total) for r in rows)])
    table.append(["peak, loading included", *(gigabytes(r.peak) for r in rows)])
    room = f"{place.name} has {gigabytes(place.room)} GB after the operating system and the GPU"
    free = gigabytes(place.room - place.budget(report.planner.profile))
    copies = [_copies(place)] if any("repacked copies" in column for column in columns) else []
    return Section(
        f"Memory in GB (1e9 bytes), at {place.name}",
        ["", *(r.artifact.quantisation.name for r in rows)],
        table,
        [f"{room}; {free} GB of it stay free", *copies],
    )


def _copies(place: Place) -> str:
    """Say what is kept twice: which types, on which boards, and how else it would be."""
    boards = ", ".join(key for key, board in place.boards.items() if board.repacked) or "this CPU"
    return (
        f"repacked copies: ggml interleaves {', '.join(sorted(place.repacked))} for {boards};"
        " weights are read, not mapped, so that only an embedding that is the head as well lies"
        " in memory twice"
    )


def _one_place(report: Report) -> Section:
    table = []
    for row in report.rows:
        speeds = sorted(s.decode for s in row.artifact.speeds)
        table.append(
            [
                row.artifact.quantisation.name,
                gigabytes(row.artifact.bytes),
                f"{row.artifact.bits_per_weight:.2f}",
                gigabytes(row.peak),
                row.verdict.value,
                gigabytes(row.left),
                str(row.longest_context or "-"),
                rate_range(speeds),
            ]
        )
    headings = ["quant", "size", "bits", "needs", "verdict", "left", "longest", "tokens/s"]
    return Section(
        f"On {report.places[0].name}, in GB",
        headings,
        table,
        ["longest: tokens of context that fit; tokens/s: decode", *_remedies(report)],
    )


def _remedies(report: Report) -> Iterator[str]:
    for row in report.rows:
        if row.verdict is not Verdict.FITS and (would := report.planner.remedies(row)):
            name = f"{row.artifact.quantisation.name} on {row.place.name}"
            yield f"{name} would fit with {' or '.join(would)}"


def _verdicts(report: Report) -> Section:
    return Section(
        "Verdicts: fits, tight or no, and the GB left or missing",
        ["quant", "size", *(p.name for p in report.places)],
        [
            [name, gigabytes(rows[0].artifact.bytes), *map(cell, rows)]
            for name, rows in _by_quantisation(report)
        ],
        [
            "tight: it loads, but what should stay free for the page cache and spikes is not",
            *_largest(report),
        ],
    )


def _largest(report: Report) -> Iterator[str]:
    """Say of each place where the usual choice does not fit what does."""
    for place in report.places:
        rows = [r for r in report.rows if r.place == place]
        if any(r.verdict is Verdict.FITS for r in rows):
            continue
        least = min(rows, key=lambda r: r.peak)
        name = least.artifact.quantisation.name
        remedies = report.planner.remedies(least)
        would = f"{name} with {' or '.join(remedies)}" if remedies else "only a smaller model"
        yield f"{place.name}: nothing of this table fits; {would} would"


def cell(row: Row | OnnxRow) -> str:
    """Return the verdict with the GB left or missing."""
    size = f"{abs(row.left) / 1e9:.1f}"
    return f"{row.verdict.value} {size}"


def _contexts(report: Report) -> Section:
    return Section(
        "Longest context that fits, in tokens",
        ["quant", *(p.name for p in report.places)],
        [
            [name, *(str(r.longest_context or "-") for r in rows)]
            for name, rows in _by_quantisation(report)
        ],
    )


def _by_quantisation(report: Report) -> Iterator[tuple[str, list[Row]]]:
    for name in report.quantisations:
        yield name, [r for r in report.rows if r.artifact.quantisation.name == name]


def _speeds(report: Report) -> Section:
    """Boards of equal speed share a row; boards on which nothing loads have none."""
    names = [n for n in TIMED if n in report.quantisations] or list(report.quantisations[:5])
    groups: dict[tuple[str, ...], list[str]] = {}
    for board in _loading_boards(report):
        groups.setdefault(tuple(_rates(report, name, board) for name in names), []).append(board)
    return Section(
        "Predicted tokens/s, prefill/decode",
        ["board", *names],
        [[", ".join(boards), *rates] for rates, boards in groups.items()],
        list(_trust(report, names)) if groups else [unpredicted(report)],
    )


def unpredicted(report: Report) -> str:
    """Say why there are no speeds."""
    if any(place.boards for place in report.places):
        return "no board loads it"
    return "this machine is none of the boards: no speed is predicted; pitool bench measures it"


def _trust(report: Report, names: list[str]) -> Iterator[str]:
    """Say how far predictions may be off, and what a decode waits for."""
    found = {
        (e.board, row.artifact.quantisation.name): e
        for row in report.rows
        for e in row.artifact.estimates
    }
    loading = _loading_boards(report)
    errors = sorted({(found[b, names[0]].decode_error, found[b, names[0]].prefill_error)
                     for b in loading})  # fmt: skip
    for decode, prefill in errors:
        boards = [b for b in loading if found[b, names[0]].decode_error == decode]
        yield f"{', '.join(boards)}: decode within {decode:.0%}, prefill within {prefill:.0%}"
    waiting: dict[str, list[str]] = {}
    for board in loading:
        slow = [name for name in names if found[board, name].bound == "products"]
        if slow:
            waiting.setdefault(", ".join(slow), []).append(board)
    for slow_names, boards in waiting.items():
        yield f"{', '.join(boards)}: a decode of {slow_names} waits for the products"
    yield "any other decode waits for the memory"
    if report.subject.shape.parameters < SMALLEST_PUBLISHED:
        yield (
            "no speed of so small a model is published: what a token costs besides its weights"
            " counts there, so that real speeds are lower"
        )


def _loading_boards(report: Report) -> list[str]:
    rows = filter(loads, report.rows)
    return list(dict.fromkeys(board for r in rows for board in r.place.boards))


def _rates(report: Report, quantisation: str, board: str) -> str:
    """Return prefill and decode of a board, a dash where it is sold with too little RAM."""
    speeds = (
        s
        for r in report.rows
        for s in r.artifact.estimates
        if r.artifact.quantisation.name == quantisation and s.board == board and loads(r)
    )
    found = next(speeds, None)
    return f"{rate(found.prefill)}/{rate(found.decode)}" if found else "-"


def loads(row: Row | OnnxRow) -> bool:
    """Tell whether it can be loaded at all."""
    return row.verdict is not Verdict.NO


def rate(value: float) -> str:
    """Return tokens/s: one decimal, none from 100 on."""
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def gigabytes(count: int) -> str:
    """Return bytes as a number of GB with two decimals, three below 0.1."""
    return f"{count / 1e9:.{2 if abs(count) >= 1e8 else 3}f}"


def rate_range(rates: list[float]) -> str:
    """Return the slowest and fastest of sorted rates, such as ``4.1-9.8``."""
    if not rates:
        return "-"
    low, high = (f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}" for rate in (rates[0], rates[-1]))
    return low if low == high else f"{low}-{high}"

"""The sections of ``pitool plan`` on memory, verdicts and speed, for every format alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pitool.catalog.task_kinds import task_kinds
from pitool.catalog.tiers import MIB, tiers
from pitool.cli import plan_caches, plan_offers, plan_rent, plot
from pitool.cli.plan_offers import cell
from pitool.errors import UsageError
from pitool.planning import answer
from pitool.planning.formats import FORMATS
from pitool.planning.formats.base import PlannedFormat
from pitool.planning.planner import Row
from pitool.planning.report import SPECULATED, Report
from pitool.planning.speculating import speculative_decodes
from pitool.planning.speed import Estimate
from pitool.report.numbers import (
    format_bytes,
    format_fixed,
    format_gigabytes,
    format_range,
    format_seconds,
    format_share,
    format_speed,
)
from pitool.report.tables import Section

# The smallest model of benchmarks/published.toml has 268 million weights.
SMALLEST_PUBLISHED = 250e6
# Columns of a table of sums, or of speeds, where none of the usual names is among them.
MOST_SUMMED, MOST_TIMED = 4, 5


def sections(report: Report, *, details: bool) -> Iterator[Section]:
    """Yield the sections in the order in which a person asks.

    ``details``: with the tables of memory, verdicts and speeds.
    """
    options = report.options
    if not details:
        yield _answer(report)
    else:
        yield head(report)
    if report.model.vocabulary:
        yield _vocabulary(report)
    if options.target_tps:
        yield plan_offers.matches(report, options.target_tps)
    elif details and (options.buy or options.rent):
        yield memory(report)
    elif details:
        yield from _fits(report)
    if options.buy:
        yield from plan_offers.buy(report)
    if options.rent:
        yield from plan_rent.rent(report)


def _answer(report: Report) -> Section:
    """Return the few lines that answer, and where there is more."""
    asked = report.options
    more = "" if asked.target_tps or asked.buy or asked.rent else MORE
    said = [*report.limits, *report.reason.splitlines()]
    lines = [] if asked.target_tps else answer.answer(report)
    notes = [*lines, *said, *filter(None, [more])]
    return Section(report.model.name, notes=notes)


MORE = "more: --details for memory, verdicts and speeds; --buy for boards and prices"


def _vocabulary(report: Report) -> Section:
    """Return what each quantisation takes with all tokens, and with those that are kept."""
    table = []
    for before, after in report.cuts():
        for row, model in ((before, report.model.whole), (after, report.model)):
            assert model
            table.append(
                [
                    row.quantisation,
                    f"{model.shape.vocabulary:,}",
                    format_bytes(row.artifact.bytes),
                    format_bytes(row.peak),
                    format_range(sorted(s.decode for s in row.artifact.speeds)),
                ]
            )
    headings = ["quant", "tokens", "size", "needs", "tokens/s"]
    return Section(f"Vocabulary, whole and cut, on {report.largest.title}", headings, table)


def _fits(report: Report) -> Iterator[Section]:
    """Yield what fits where and how fast it is, and what else could be done at a single place."""
    yield memory(report)
    yield from plan_caches.caches(report)
    single = len(report.places) == 1
    if single and report.form.by_bits:
        yield _one_place(report)
    else:
        yield _verdicts(report, report.form, report.rows)
        yield _contexts(report)
    yield _speeds(report, report.form, report.rows)
    yield from _speculative(report)
    yield from _drafts(report)
    if report.options.prompt:
        yield _waiting(report)
    for name, rows in report.beside.items():
        other = FORMATS[name]
        shown = [row for row in rows if row.quantisation in other.beside]
        section = _verdicts(report, other, shown)
        yield replace(
            section, notes=[*section.notes, f"--format {name} shows the memory in detail"]
        )
        yield _speeds(report, other, shown)
    if single and report.form.by_bits:
        yield from plan_offers.alternatives(report)


def head(report: Report) -> Section:
    """Return what is planned, and under which profile."""
    shape, planner = report.model.shape, report.planner
    kind = "typical shape" if report.model.typical else shape.architecture
    load = planner.load
    model = (
        f"{kind}: {format_fixed(shape.parameters / 1e6, 1)} million weights, {shape.layers} layers,"
        f" {shape.kv_heads} key-value head{'s' * (shape.kv_heads > 1)} of {shape.head_dim},"
        f" trained with {shape.context} tokens of context"
    )
    cache = str(load.cache) if report.form.tunable else "of the graph's own type"
    answers = f"{load.sequences} answers at once, each with " if load.sequences > 1 else ""
    how = (
        f"planned for {answers}{load.context} tokens of context, KV cache {cache},"
        f" batches of {load.micro_batch}; {planner.profile.summary}"
    )
    return Section(
        report.model.name, notes=[model, how, *report.notes, *report.reason.splitlines()]
    )


def memory(report: Report) -> Section:
    """Return the sum, a column a quantisation, at the largest place."""
    place, form = report.largest, report.form
    rows = [r for r in report.rows if r.place == place]
    named = report.options.quant is not None
    usual = [r for r in rows if r.quantisation in form.summed]
    rows = rows[:MOST_SUMMED] if (named and form.assumed) or not usual else usual
    columns = [
        {line.name: format_gigabytes(line.bytes) for line in r.artifact.memory.lines} for r in rows
    ]
    labels = dict.fromkeys(label for column in columns for label in column)
    table = [[k, *(c.get(k, "-") for c in columns)] for k in labels]
    table.append(["sum while running", *(format_gigabytes(r.artifact.memory.total) for r in rows)])
    if form.loading_counts:
        table.append(["peak, with loading", *(format_gigabytes(r.peak) for r in rows)])
    tier = tiers().get(place.tier)
    ram = f"{format_gigabytes(tier.ram_mib * MIB)} GB of RAM, of which " if tier else ""
    room = (
        f"{place.title} has {ram}{format_gigabytes(place.room)} GB"
        f" {'are ' * bool(ram)}left by the operating system and the GPU"
    )
    free = format_gigabytes(place.room - place.budget(report.planner.profile))
    copied = any(label.endswith("copies") for label in labels)
    return Section(
        f"Memory on {place.title}, in GB (1e9 bytes)",
        ["", *(r.quantisation for r in rows)],
        table,
        [f"{room}; {free} GB of this stays free", *([form.copies(place)] if copied else [])],
    )


def _one_place(report: Report) -> Section:
    table = []
    for row in report.rows:
        speeds = sorted(s.decode for s in row.artifact.speeds) if row.loads else []
        table.append(
            [
                row.quantisation,
                format_gigabytes(row.artifact.bytes),
                format_fixed(row.artifact.bits_per_weight, 2),
                format_gigabytes(row.peak),
                row.verdict.value,
                format_gigabytes(row.left),
                str(row.longest_context or "-"),
                format_range(speeds),
            ]
        )
    headings = ["quant", "size", "bits", "needs", "verdict", "left", "longest", "tokens/s"]
    return Section(
        f"Quantisations on {report.largest.title}, in GB",
        headings,
        table,
        [_decode_note(report), *_remedies(report, report.rows)],
    )


def _decode_note(report: Report) -> str:
    """Say of which boards the speeds are."""
    words = "longest: tokens of context that fit; tokens/s: decode"
    boards = sorted(report.rows[0].artifact.estimates, key=lambda each: each.decode)
    if not boards:
        return words
    slow, fast = boards[0].board, boards[-1].board
    return f"{words} on {slow}" if slow == fast else f"{words}, from {slow} to {fast}"


def _remedies(report: Report, rows: Sequence[Row]) -> Iterator[str]:
    if rows is report.rows and not any(row.loads for row in rows):
        yield from answer.smaller(report, report.largest)
    alike: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if would := report.planner.remedies(row):
            alike.setdefault((row.place.title, " or ".join(would)), []).append(row.quantisation)
    for (place, words), names in alike.items():
        yield f"{', '.join(names)} on {place} would fit with {words}"


def _verdicts(report: Report, form: PlannedFormat, rows: Sequence[Row]) -> Section:
    notes: list[str] = []
    if form is report.form:
        notes = ["tight: it loads, but leaves too little memory for the page cache and peaks"]
    if len(report.places) == 1:
        notes += _remedies(report, rows)
    elif form is report.form:
        notes += _largest(report)
        if not any(row.loads for row in rows):
            notes += answer.smaller(report, report.largest)
    return Section(
        f"Verdicts with {form.runtime}: fits, tight or no, and the GB left or missing",
        ["quant", "size", *(p.name for p in report.places)],
        [
            [name, format_gigabytes(found[0].artifact.bytes), *map(cell, found)]
            for name, found in _by_quantisation(rows)
        ],
        notes,
    )


def _largest(report: Report) -> Iterator[str]:
    """Say of each place where the usual choice does not fit what does."""
    for place in report.places:
        rows = [r for r in report.rows if r.place == place]
        if any(r.fits for r in rows):
            continue
        least = min(rows, key=lambda r: r.peak)
        remedies = report.planner.remedies(least)
        would = f"{least.quantisation} with {' or '.join(remedies)}" if remedies else ""
        yield f"{place.title}: nothing in this table fits; {would or 'only a smaller model'} would"


def _contexts(report: Report) -> Section:
    return Section(
        "Longest context that fits, in tokens",
        ["quant", *(p.name for p in report.places)],
        [
            [name, *(str(r.longest_context or "-") for r in rows)]
            for name, rows in _by_quantisation(report.rows)
        ],
    )


def _by_quantisation(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    for name in dict.fromkeys(row.quantisation for row in rows):
        yield name, [row for row in rows if row.quantisation == name]


def _speeds(report: Report, form: PlannedFormat, rows: Sequence[Row]) -> Section:
    """Boards of equal speed share a row; what loads on none of a board's sizes is a dash."""
    found = {
        (e.board, row.quantisation): e for row in rows if row.loads for e in row.artifact.estimates
    }
    names = list(dict.fromkeys(row.quantisation for row in rows))
    shown = [n for n in names if n in form.timed] or names[: MOST_TIMED - bool(form.assumed)]
    speed = _range if form.assumed else _both
    groups: dict[tuple[str, ...], list[str]] = {}
    for board in dict.fromkeys(board for board, _ in found):
        speeds = tuple(speed(found.get((board, name))) for name in shown)
        groups.setdefault(speeds, []).append(board)
    title = "Predicted tokens/s, prefill/decode"
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
        trust if groups else [unpredicted(report)],
    )


def _speculative(report: Report) -> Iterator[Section]:
    """Yield what guessed tokens make of the decode of what is usually taken."""
    rows = [row for row in report.rows if row.loads and row.artifact.estimates]
    row = next((r for r in rows if r.quantisation in SPECULATED), next(iter(rows), None))
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


def _drafts(report: Report) -> Iterator[Section]:
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


def _waiting(report: Report) -> Section:
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
        [note] if table else [unpredicted(report)],
    )


def _range(found: Estimate | None) -> str:
    return format_range(found.decode_range) if found else "-"


def _both(found: Estimate | None) -> str:
    return f"{format_speed(found.prefill)}/{format_speed(found.decode)}" if found else "-"


def unpredicted(report: Report) -> str:
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
        within = f"decode within {format_share(decode)}, prefill within {format_share(prefill)}"
        yield f"{', '.join(boards)}: {within}"
    waiting: dict[str, list[str]] = {}
    for board in loading:
        slow = [name for name in names if found[board, name].bound == "products"]
        if slow:
            waiting.setdefault(", ".join(slow), []).append(board)
    for slow_names, boards in waiting.items():
        yield f"{', '.join(boards)}: decode of {slow_names} is limited by arithmetic"
    subject = "all other decode" if waiting else "decode"
    yield f"{subject} is limited by memory bandwidth"
    if report.model.shape.parameters < SMALLEST_PUBLISHED:
        yield (
            "no speeds of such small models are published; real speeds are lower, because costs per"
            " token other than reading the weights matter"
        )


def chart(report: Report) -> str:
    """Return an SVG of size against speed at the largest place; UsageError where none is known."""
    place = report.largest
    if not place.boards:
        raise UsageError(f"no board is known for {place.title}", "choose one with --board")
    found = series(report)
    if not any(found.values()):
        raise UsageError(f"nothing can be loaded on {place.title}", "choose a larger --ram")
    return plot.chart(f"{report.model.name} on {place.title}", found).to_svg()


def series(report: Report) -> dict[str, Sequence[plot.PlannedSpeed]]:
    """Return the points of each group of boards that are equally fast."""
    place = report.largest
    rows = [row for row in report.rows if row.place == place and row.loads]
    certificates = report.model.certificates
    groups: dict[tuple[float, ...], list[str]] = {}
    for i, board in enumerate(place.boards):
        rates = tuple(row.artifact.estimates[i].decode for row in rows)
        groups.setdefault(rates, []).append(board)
    return {
        ", ".join(boards): [
            plot.PlannedSpeed(
                row.quantisation,
                row.artifact.bytes,
                rate,
                row.artifact.bits_per_weight,
                row.fits,
                certificates[row.quantisation].mean_kl
                if row.quantisation in certificates
                else None,
            )
            for row, rate in zip(rows, rates, strict=True)
        ]
        for rates, boards in groups.items()
    }

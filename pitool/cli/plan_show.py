"""The sections of ``pitool plan`` on memory and verdicts, and the order of all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pitool.catalog.tiers import MIB, tiers
from pitool.cli import plan_caches, plan_offers, plan_rent, plan_speeds, plot
from pitool.cli.plan_offers import cell
from pitool.errors import UsageError
from pitool.planning import answer
from pitool.planning.formats import FORMATS
from pitool.planning.formats.base import PlannedFormat
from pitool.planning.planner import Row
from pitool.planning.report import Report
from pitool.report.numbers import format_bytes, format_fixed, format_gigabytes, format_range
from pitool.report.tables import Section

# Columns of a table of sums where none of the usual names is among them.
MOST_SUMMED = 4


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
    yield plan_speeds.speeds(report, report.form, report.rows)
    yield from plan_speeds.speculative(report)
    yield from plan_speeds.drafts(report)
    if report.options.prompt:
        yield plan_speeds.waiting(report)
    for name, rows in report.beside.items():
        other = FORMATS[name]
        shown = [row for row in rows if row.quantisation in other.beside]
        section = _verdicts(report, other, shown)
        yield replace(
            section, notes=[*section.notes, f"--format {name} shows the memory in detail"]
        )
        yield plan_speeds.speeds(report, other, shown)
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
    there = {*form.summed, *report.model.stored}
    usual = [r for r in rows if r.quantisation in there]
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
    rate = "reading" if report.model.shape.encoder else "decode"
    words = f"longest: tokens of context that fit; tokens/s: {rate}"
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

"""The answer of ``pitool plan`` in a few lines: what to take where, how fast it is, what is better.

Each line is one sentence of the report's own figures; all of them are in its tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pitool.catalog.tiers import tiers
from pitool.planning import catalogue
from pitool.planning.alternatives import LoadMethod, streaming
from pitool.planning.catalogue import READING, Entry
from pitool.planning.formats import FORMATS, GGUF
from pitool.planning.places import Place, tier_places
from pitool.planning.planner import Row, usable
from pitool.planning.prefill import PROMPT
from pitool.planning.report import Report
from pitool.planning.speed import Estimate
from pitool.report.numbers import format_bytes, format_range, format_seconds, format_speed

UNPREDICTED = (
    "this machine is not a known board, so no speed is predicted: measure it with pitool bench"
)
FASTEST = "Q4_0"
"""The quantisation that decodes the fastest of those that one would really use."""


@dataclass(frozen=True, slots=True)
class Take:
    """What to take at a place; None where nothing that one would really use fits."""

    place: Place
    row: Row | None


def answer(report: Report) -> list[str]:
    """Return the lines, the most important one first."""
    takes = [Take(place, _take(report, place)) for place in report.places]
    lines = [_what(takes), *_speed(takes), *_waits(report, takes), *_better(report, takes)]
    return [line for line in lines if line]


def board_words(place: Place) -> str:
    """Return a place as a sentence names it: ``a board with 8 GB``, ``pi5-8gb``."""
    tier = place.tier in tiers() and place.name == place.tier
    return f"a board with {memory_words(place)}" if tier else place.title


def memory_words(place: Place) -> str:
    """Return the memory of a tier as it is sold: ``8 GB``, ``512 MB``."""
    tier = tiers().get(place.tier)
    if tier is None:
        return format_bytes(place.room)
    return f"{tier.ram_mib} MB" if tier.ram_mib < 1024 else f"{tier.ram_mib // 1024} GB"


def _take(report: Report, place: Place) -> Row | None:
    """Return the row to take at a place: the profile's choice, else the best that is named."""
    if report.form is GGUF and report.options.quant is None:
        row, _ = report.planner.choose(place)
        there = row.quantisation in report.model.stored
        return row if row.fits and (there or usable(row.artifact.quantisation)) else None
    fitting = [row for row in report.rows if row.place == place and row.fits]
    quick = [row for row in fitting if row.slowest >= READING]
    return next(iter(quick or fitting[::-1]), None)


def _what(takes: Sequence[Take]) -> str:
    found = [take for take in takes if take.row is not None]
    if not found:
        where = board_words(takes[-1].place)
        return f"It does not fit {where} with four bits per weight or more."
    if len(takes) == 1:
        row = takes[0].row
        assert row is not None
        return (
            f"On {board_words(takes[0].place)} take {_named(row)}: it needs"
            f" {format_bytes(row.peak)} of the {format_bytes(row.place.room)} that a model may use."
        )
    groups: dict[str, list[Take]] = {}
    for take in found:
        assert take.row is not None
        groups.setdefault(take.row.quantisation, []).append(take)
    parts = [f"{_named(each[0].row)} with {_memories(each)}" for each in groups.values()]
    small = [take for take in takes if take.row is None]
    less = f" {_memories(small)} is too little." if small else ""
    return f"Take {'; '.join(parts)}.{less}"


def _named(row: Row | None) -> str:
    assert row is not None
    return f"{row.quantisation} ({format_bytes(row.artifact.bytes)})"


def _memories(takes: Sequence[Take]) -> str:
    """Return ``2 GB``, ``4 or 8 GB``, or ``4 GB to 16 GB``."""
    words = [memory_words(take.place) for take in takes]
    return f"{words[0]} to {words[-1]}" if len(words) > 2 else " or ".join(words)


def _speed(takes: Sequence[Take]) -> Iterator[str]:
    """Yield how fast what is taken is on the fastest and the slowest of its boards."""
    row = _told(takes)
    if row is None:
        yield UNPREDICTED * any(take.row is not None for take in takes)
        return
    groups: dict[tuple[str, str], list[Estimate]] = {}
    for each in row.artifact.estimates:
        speeds = format_speed(each.decode), format_speed(each.prefill)
        groups.setdefault(speeds, []).append(each)
    ordered = sorted(groups.values(), key=lambda each: -each[0].decode)
    shown = ordered if len(ordered) < 3 else [ordered[0], ordered[-1]]
    about = "assumed, because none are published: " if FORMATS[row.artifact.format].assumed else ""
    several = f"{row.quantisation} with {memory_words(row.place)}: " if len(takes) > 1 else ""
    yield f"{several}{about}{'; '.join(map(_pace, shown))}."


def _told(takes: Sequence[Take]) -> Row | None:
    """Return the row whose speeds are told: what is taken where there are most boards."""
    taken = [take.row for take in takes if take.row is not None]
    rows = [row for row in taken if row.artifact.estimates]
    return max(rows, key=lambda row: (len(row.artifact.estimates), -row.place.room), default=None)


def _waits(report: Report, takes: Sequence[Take]) -> Iterator[str]:
    """Yield how long the prompt that is asked of waits: read anew, and read before."""
    row = _told(takes)
    found = sorted(report.waiting(row), key=lambda each: each.seconds) if row else []
    for each in dict.fromkeys([*found[:1], *found[-1:]]):
        saved = ", ".join(
            f"{_seconds(seconds)} {MEDIA[medium]}"
            for medium, seconds in sorted(each.saved_seconds.items(), key=lambda item: item[1])
        )
        yield (
            f"{each.board}: a prompt of {each.tokens} tokens waits {_seconds(each.seconds)}"
            f" ({_seconds(each.fastest)} to {_seconds(each.slowest)}); read before with pitool"
            f" prefill, it is {format_bytes(each.saved_bytes)} and there after {saved}."
        )


def _pace(found: Sequence[Estimate]) -> str:
    first = found[0]
    boards = ", ".join(each.board for each in found)
    wait = _seconds(PROMPT / first.prefill)
    return (
        f"{boards} {format_speed(first.decode)} tokens/s ({format_range(first.decode_range)}),"
        f" and a prompt of {PROMPT} tokens waits {wait}"
    )


def _better(report: Report, takes: Sequence[Take]) -> Iterator[str]:
    """Yield what would be better: a smaller model, another quantisation, a board with more."""
    place, row = takes[-1].place, takes[-1].row
    if row is None:
        yield from smaller(report, place)
        yield from _streams(report, place)
    elif row.artifact.estimates and row.slowest < READING:
        yield from _faster(report, row)
    elif len(takes) == 1 and report.form is GGUF and report.options.quant is None:
        yield from _larger(report, row)


def smaller(report: Report, place: Place) -> Iterator[str]:
    """Name a smaller model that fits, where the catalogue has one."""
    found = catalogue.smaller(place, report.model.shape.parameters)
    if found is not None:
        where = board_words(place)
        where = f"A{where[1:]}" if where.startswith("a board") else where
        yield f"{where} has room for {_entry(found)}"


def _entry(found: Entry) -> str:
    speed = f", {format_speed(found.decode)} tokens/s" if found.decode else ""
    return f"{found.name} ({format_bytes(found.bytes)}{speed}): pitool pull {found.name}"


def _faster(report: Report, row: Row) -> Iterator[str]:
    """Name what is as fast as people read, on the fastest board of the place."""
    best = max(row.artifact.estimates, key=lambda each: each.decode)
    if best.decode >= READING:
        return
    board = {best.board: row.place.boards[best.board]}
    place = replace(row.place, boards=board)
    slow = f"People read about {READING:g} tokens/s; as fast on {best.board}:"
    four = report.planner.row(GGUF.find(FASTEST), place)
    if report.form is GGUF and four.fits and four.slowest >= READING:
        yield f"{slow} {FASTEST} ({format_speed(four.slowest)} tokens/s)."
    elif found := catalogue.quick(place, report.model.shape.parameters):
        yield f"{slow} {_entry(found)}"


def _larger(report: Report, row: Row) -> Iterator[str]:
    """Name the next size of memory with which a better quantisation is fast enough."""
    order = list(GGUF.quantisations)
    for place in tier_places():
        if place.room <= row.place.room or place.tier == row.place.tier:
            continue
        better, _ = report.planner.choose(place)
        if better.fits and order.index(better.quantisation) < order.index(row.quantisation):
            yield f"With {memory_words(place)} it would be {_named(better)}, of better quality."
            return


def _streams(report: Report, place: Place) -> Iterator[str]:
    """Say that it runs from the disk, and how slowly, where it does."""
    found = streaming(report.planner, place) if report.form is GGUF else None
    if found is not None:
        yield (
            f"Possible, but from the disk: with mmap every token of {found.row.quantisation} takes"
            f" {from_disk(found)}."
        )


MEDIA = {"nvme": "from an NVMe SSD", "usb": "from a USB SSD", "sd": "from an SD card"}


def from_disk(method: LoadMethod) -> str:
    """Return how long a token takes from each medium, the fastest first."""
    parts = [
        f"{_seconds(1 / method.streamed[medium])} {words}"
        for medium, words in MEDIA.items()
        if medium in method.streamed
    ]
    return ", ".join(parts)


def _seconds(value: float) -> str:
    """Return seconds as exactly as a prediction is worth."""
    return format_seconds(value if value < 10 else round(value)).replace(".0 s", " s")

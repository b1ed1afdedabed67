"""What a card of a benchmark says: the tests by what they do, and what they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pitool.bench.rows import BenchRow, artifact_name, rate, test_name
from pitool.device.sensors import FLAGS
from pitool.planning.formats import format_of_engine
from pitool.report.numbers import format_bytes, format_celsius, format_date
from pitool.report.text import wrap

# What finds room on a line of the picture.
NOTE_LETTERS = 104
# Of tests, by what they do: the key of a group and its name.
GROUPS = {
    (True, False): ("prefill", "Prefill"),
    (False, True): ("decode", "Decode"),
    (True, True): ("both", "Prefill and decode"),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """A test with its tokens/s: mean and deviation, as text too, and as predicted where known."""

    label: str
    value: float
    deviation: float
    text: str
    predicted: float | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Tests that are compared with one another."""

    key: str
    name: str
    bars: tuple[Measured, ...]


@dataclass(frozen=True, slots=True)
class Card:
    """``title``: the board; ``subtitle``: artifact and threads, where they are the same everywhere.

    ``rows``: artifact, test, threads, tokens/s; ``groups``: the same to be drawn; ``notes``: what
    they must be compared with.
    """

    title: str
    subtitle: str
    rows: tuple[tuple[str, str, str, str], ...]
    groups: tuple[Group, ...]
    notes: tuple[str, ...]


def card(rows: Sequence[BenchRow]) -> Card:
    """Return the card of the rows of one bench, of one board or several; there is at least one."""
    names = _distinct(rows, _name)
    threads = _distinct(rows, lambda row: str(row["n_threads"]))
    title = ", ".join(_distinct(rows, lambda row: str(row["board"])))
    alike = names if len(names) == 1 else []
    if len(threads) == 1:
        alike.append(f"{threads[0]} threads")
    cells = tuple((_name(row), test_name(row), str(row["n_threads"]), rate(row)) for row in rows)
    notes = [line for note in _notes(rows) for line in wrap(note, NOTE_LETTERS)]
    return Card(title, ", ".join(alike), cells, _groups(rows), tuple(notes))


def _name(row: BenchRow) -> str:
    return (f"{row['host']} " if "host" in row else "") + artifact_name(row)


def _groups(rows: Sequence[BenchRow]) -> tuple[Group, ...]:
    """Return the rows by what they test; a label says what is not the same in all of them."""
    several = len(_distinct(rows, _name)) > 1
    threads = len(_distinct(rows, lambda row: str(row["n_threads"]))) > 1
    groups: dict[tuple[str, str], list[Measured]] = {}
    for row in rows:
        kind = GROUPS[bool(row["n_prompt"]), bool(row["n_gen"])]
        label = f"{_name(row)} {test_name(row)}" if several else test_name(row)
        label += f", {row['n_threads']} threads" * threads
        groups.setdefault(kind, []).append(
            Measured(label, row["avg_ts"], row["stddev_ts"], rate(row), row.get("predicted_ts"))
        )
    return tuple(Group(*kind, tuple(bars)) for kind, bars in groups.items())


def _distinct(rows: Sequence[BenchRow], text: Callable[[BenchRow], str]) -> list[str]:
    return list(dict.fromkeys(text(row) for row in rows))


def _notes(rows: Sequence[BenchRow]) -> list[str]:
    """Return what a number must be compared with: model, settings, board, conditions, versions."""
    notes = _distinct(rows, _model)
    notes += _distinct(rows, _settings)
    peaks = [row["peak_memory_bytes"] for row in rows if row["peak_memory_bytes"]]
    if peaks:
        notes.append(f"peak memory {format_bytes(max(peaks))}")
    notes.append(_conditions([condition for row in rows for condition in row["conditions"]]))
    notes += _distinct(rows, _machine)
    builds = ", ".join(_distinct(rows, lambda row: str(row["build_commit"])))
    return [*notes, f"{builds}; {format_date(rows[0]['test_time'])}"]


def _model(row: BenchRow) -> str:
    digest = row["artifact_sha256"]
    known = f", sha256 {digest[:12]}" if digest else ""
    return f"{row['model_type']}, {format_bytes(row['model_size'])}{known}"


def _settings(row: BenchRow) -> str:
    times = f"{len(row['samples_ts'])} repetitions"
    form = format_of_engine(row["engine"])
    if not form.tunable:
        return f"{times}, {form.runtime}"
    flash = {1: "on", 0: "off"}.get(row["flash_attn"], "auto")
    return (
        f"{times}, KV cache {row['type_k']}/{row['type_v']}, batch {row['n_batch']},"
        f" micro-batch {row['n_ubatch']}, flash attention {flash},"
        f" {'mapped' if 'mmap' in row['load_mode'] else 'read'} weights"
    )


def _conditions(conditions: Sequence[BenchRow]) -> str:
    heat = [c["temperature_after"] for c in conditions if c["temperature_after"] is not None]
    problems = dict.fromkeys(problem for c in conditions for problem in c["problems"])
    known = any("throttled" in c["throttled_told"] for c in conditions)
    said = [f"hottest {format_celsius(max(heat))}" if heat else "temperature unknown"]
    if problems:
        said.append(f"in some repetitions: {', '.join(problems)}")
    if not problems.keys() & set(FLAGS):
        said.append("not throttled" if known else "throttling unknown")
    return ", ".join(said)


def _machine(row: BenchRow) -> str:
    firmware = f", bootloader from {row['firmware']}" if row["firmware"] else ""
    return f"{row['cpu_info']}, {row['kernel']}{firmware}"

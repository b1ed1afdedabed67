"""A picture or table of benchmark results to share, with all that makes them comparable."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pitool.bench.rows import BenchRow, artifact_name, rate, test_name
from pitool.catalog.outputs import check_output, write_output
from pitool.device.sensors import FLAGS
from pitool.errors import MissingPart, UsageError
from pitool.planning.formats import format_of_engine
from pitool.report.numbers import format_bytes, format_celsius, format_date
from pitool.report.svg import Canvas
from pitool.report.tables import Column, Section, to_markdown
from pitool.report.text import shorten, wrap

WIDTH, LINE, MARGIN = 760, 24, 28
TEST, THREADS = 400, 545
# What finds room on a line of the picture.
NAME_LETTERS, TITLE_LETTERS, NOTE_LETTERS = 44, 64, 104
HEADINGS = ("artifact", "test", "threads", "tokens/s")
INK, PAPER, ACCENT, FAINT = "#1d1f21", "#fbfaf7", "#b3123f", "#6b6f76"


@dataclass(frozen=True, slots=True)
class Card:
    """``title``: the board; ``rows``: artifact, test, threads, tokens/s; ``notes``: the rest."""

    title: str
    rows: tuple[tuple[str, str, str, str], ...]
    notes: tuple[str, ...]


def card(rows: Sequence[BenchRow]) -> Card:
    """Return the card of the rows of one bench, of one board or several; there is at least one."""
    cells = []
    for row in rows:
        host = f"{row['host']} " if "host" in row else ""
        cells.append((host + artifact_name(row), test_name(row), str(row["n_threads"]), rate(row)))
    title = ", ".join(_distinct(rows, lambda row: str(row["board"])))
    notes = [line for note in _notes(rows) for line in wrap(note, NOTE_LETTERS)]
    return Card(title, tuple(cells), tuple(notes))


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


def check(path: Path) -> None:
    """Raise UsageError when a card cannot be written there, before anything is measured."""
    if path.suffix.lower() not in _RENDERERS:
        raise UsageError(
            f"{path} is not a card file", f"choose a name with {', '.join(_RENDERERS)}"
        )
    check_output(path, "--card")


def write(path: Path, rows: Sequence[BenchRow]) -> None:
    """Write the card in the format of the file's suffix."""
    check(path)
    write_output(path, _RENDERERS[path.suffix.lower()](card(rows)))


def markdown(made: Card) -> bytes:
    """Return the card as a Markdown table."""
    headings = [Column(heading, "left" if i < 2 else "right") for i, heading in enumerate(HEADINGS)]
    section = Section(made.title, headings, made.rows, [" · ".join(made.notes)])
    return f"{to_markdown([section])}\n".encode()


def svg(made: Card) -> bytes:
    """Return the card as a picture that every browser shows."""
    canvas = Canvas(WIDTH, _height(made), label=made.title, paper=PAPER)
    for x, y, text, colour, size, anchor in _texts(made):
        canvas.text(x, y, text, size, anchor=anchor, colour=colour)
    return canvas.to_svg().encode()


def png(made: Card) -> bytes:
    """Return the same picture as pixels; MissingPart without Pillow."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        raise MissingPart(
            "a PNG needs Pillow, which is not installed",
            "run: pip install pillow, or choose an .svg",
        ) from None
    scale = 2
    image = Image.new("RGB", (WIDTH * scale, _height(made) * scale), PAPER)
    draw = ImageDraw.Draw(image)
    for x, y, text, colour, size, anchor in _texts(made):
        font = ImageFont.load_default(size * scale)
        place = "rs" if anchor == "end" else "ls"
        draw.text((x * scale, y * scale), text, fill=colour, font=font, anchor=place)
    target = io.BytesIO()
    image.save(target, "PNG")
    return target.getvalue()


def _height(made: Card) -> int:
    return 2 * MARGIN + LINE * (len(made.rows) + len(made.notes) + 3)


def _texts(made: Card) -> list[tuple[int, int, str, str, int, str]]:
    """Return x, y, text, colour, size and anchor of everything on the picture."""
    y = MARGIN + LINE // 2
    texts = [(MARGIN, y, shorten(made.title, TITLE_LETTERS), INK, 20, "start")]
    y += LINE + LINE // 2
    for row, colour in [(HEADINGS, FAINT)] + [(row, INK) for row in made.rows]:
        name, test, threads, rate = row
        texts += [
            (MARGIN, y, shorten(name, NAME_LETTERS), colour, 15, "start"),
            (TEST, y, test, colour, 15, "start"),
            (THREADS, y, threads, colour, 15, "end"),
            (WIDTH - MARGIN, y, rate, ACCENT if colour == INK else FAINT, 15, "end"),
        ]
        y += LINE
    y += LINE // 2
    for note in made.notes:
        texts.append((MARGIN, y, note, FAINT, 13, "start"))
        y += LINE
    return texts


_RENDERERS: dict[str, Callable[[Card], bytes]] = {".svg": svg, ".png": png, ".md": markdown}

"""One picture or table of a bench that a person can post, with all that makes it comparable."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from pitool.bench.formats import Row, artifact_name, rate, test_name
from pitool.errors import MissingPart, UsageError
from pitool.spec.files import write_atomically
from pitool.spec.memory import format_bytes

WIDTH, LINE, MARGIN = 760, 24, 28
INK, PAPER, ACCENT, FAINT = "#1d1f21", "#fbfaf7", "#b3123f", "#6b6f76"


@dataclass(frozen=True, slots=True)
class Card:
    """``title``: the board; ``rows``: artifact, test, threads, tokens/s; ``notes``: the rest."""

    title: str
    rows: tuple[tuple[str, str, str, str], ...]
    notes: tuple[str, ...]


def card(rows: Sequence[Row]) -> Card:
    """Return the card of the rows of one bench; there is at least one."""
    first = rows[0]
    cells = []
    for row in rows:
        cells.append((artifact_name(row), test_name(row), str(row["n_threads"]), rate(row)))
    return Card(str(first["board"]), tuple(cells), tuple(_notes(rows)))


def _notes(rows: Sequence[Row]) -> list[str]:
    first = rows[0]
    notes = [f"{row['model_type']}, {format_bytes(row['model_size'])}" for row in rows]
    peaks = [row["peak_memory_bytes"] for row in rows if row["peak_memory_bytes"]]
    conditions = [condition for row in rows for condition in row["conditions"]]
    heat = [c["temperature_after"] for c in conditions if c["temperature_after"] is not None]
    problems = dict.fromkeys(problem for c in conditions for problem in c["problems"])
    known = any(c["throttled_now"] is not None for c in conditions)
    notes = list(dict.fromkeys(notes))
    if peaks:
        notes.append(f"peak memory {format_bytes(max(peaks))}")
    if heat:
        notes.append(f"hottest {max(heat):.0f} °C")
    throttling = "not throttled" if known else "throttling unknown"
    notes.append(", ".join(problems) if problems else throttling)
    firmware = f", bootloader of {first['firmware']}" if first["firmware"] else ""
    notes.append(f"{first['cpu_info']}, {first['kernel']}{firmware}")
    notes.append(f"{first['build_commit']}, {first['test_time'][:10]}")
    return notes


def check(path: Path) -> None:
    """Raise UsageError when a card cannot be written there, before anything is measured."""
    if path.suffix.lower() not in _RENDERERS:
        raise UsageError(f"{path} is no card", f"end it with {', '.join(_RENDERERS)}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{path.parent} is no folder", "name one that is there")


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write the card in the format of the file's suffix."""
    check(path)
    write_atomically(path, _RENDERERS[path.suffix.lower()](card(rows)))


def markdown(made: Card) -> bytes:
    """Return the card as a Markdown table."""
    lines = [f"**{made.title}**", "", "| artifact | test | threads | tokens/s |"]
    lines.append("|---|---|---:|---:|")
    lines += [f"| {' | '.join(row)} |" for row in made.rows]
    lines += ["", " · ".join(made.notes), ""]
    return "\n".join(lines).encode()


def svg(made: Card) -> bytes:
    """Return the card as a picture that every browser shows."""
    height = 2 * MARGIN + LINE * (len(made.rows) + len(made.notes) + 3)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
            f' viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="15">'
        ),
        f'<rect width="{WIDTH}" height="{height}" rx="10" fill="{PAPER}"/>',
    ]
    for x, y, text, colour, size, anchor in _texts(made):
        parts.append(
            f'<text x="{x}" y="{y}" fill="{colour}" font-size="{size}"'
            f' text-anchor="{anchor}">{escape(text)}</text>'
        )
    return "\n".join([*parts, "</svg>", ""]).encode()


def png(made: Card) -> bytes:
    """Return the same picture as pixels; MissingPart without Pillow."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        raise MissingPart(
            "a PNG needs Pillow, which is not installed", "pip install pillow, or write an .svg"
        ) from None
    scale = 2
    height = 2 * MARGIN + LINE * (len(made.rows) + len(made.notes) + 3)
    image = Image.new("RGB", (WIDTH * scale, height * scale), PAPER)
    draw = ImageDraw.Draw(image)
    for x, y, text, colour, size, anchor in _texts(made):
        font = ImageFont.load_default(size * scale)
        place = "rs" if anchor == "end" else "ls"
        draw.text((x * scale, y * scale), text, fill=colour, font=font, anchor=place)
    target = io.BytesIO()
    image.save(target, "PNG")
    return target.getvalue()


def _texts(made: Card) -> list[tuple[int, int, str, str, int, str]]:
    """Return x, y, text, colour, size and anchor of everything on the picture."""
    y = MARGIN + LINE // 2
    texts = [(MARGIN, y, made.title, INK, 20, "start")]
    y += LINE + LINE // 2
    for row, colour in [(("artifact", "test", "threads", "tokens/s"), FAINT)] + [
        (row, INK) for row in made.rows
    ]:
        name, test, threads, rate = row
        texts += [
            (MARGIN, y, name, colour, 15, "start"),
            (390, y, test, colour, 15, "start"),
            (580, y, threads, colour, 15, "end"),
            (WIDTH - MARGIN, y, rate, ACCENT if colour == INK else FAINT, 15, "end"),
        ]
        y += LINE
    y += LINE // 2
    for note in made.notes:
        texts.append((MARGIN, y, note, FAINT, 13, "start"))
        y += LINE
    return texts


_RENDERERS: dict[str, Callable[[Card], bytes]] = {".svg": svg, ".png": png, ".md": markdown}

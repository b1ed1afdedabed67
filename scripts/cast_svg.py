"""Draw a terminal recording (asciicast v2) as an animated SVG: the same bytes every time.

All screens lie one below the other, and the style moves the one that is on past the window. Lines
that are alike are stored once. What does not move pictures shows the last screen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

import pyte

FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
SIZE, ADVANCE, LINE = 14, 8.4, 19
PAD, BAR = 14, 34
# Screens that last less are passed over; what is waited for is cut; the last one stays for a while.
SHORTEST, LONGEST, LAST = 0.12, 1.6, 4.0
INK, PAPER, FRAME = "d6dbe1", "14171c", "2b3038"
PALETTE = {
    "black": "3b4048", "red": "f07178", "green": "8fce6f", "brown": "e6c068", "blue": "6cb2f5",
    "magenta": "d59bea", "cyan": "5fd0d6", "white": "d6dbe1",
    "brightblack": "8a93a0", "brightred": "ff8f95", "brightgreen": "a9e08c",
    "brightbrown": "f5d582", "brightyellow": "f5d582", "brightblue": "8fc7ff",
    "brightmagenta": "e4b6f5", "brightcyan": "86e4e8", "brightwhite": "ffffff",
}  # fmt: skip
# Of keyboards and of the terminal's kind: the emulator would write them onto the screen.
_UNKNOWN = re.compile(r"\x1b\[[<>=][\d;]*[A-Za-z]|\x1b\[\?[\d;]*\$p|\x1b[PX^_].*?\x1b\\", re.DOTALL)

Style = tuple[str, str, bool, bool, bool]
"""Colours of letters and of what is behind them; bold, italic, underlined."""
Piece = tuple[int, int, str, Style]
"""The column where it begins, its columns, its text and its style."""
Row = tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """A screen, and for how many seconds it is seen."""

    rows: tuple[Row, ...]
    seconds: float


def read(path: Path) -> tuple[dict[str, Any], list[tuple[float, str]]]:
    """Return the header of a recording, and what was written when."""
    head, *events = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return head, [(when, text) for when, kind, text in events if kind == "o"]


def known(text: str) -> str:
    """Return a text without what the emulator does not know."""
    return _UNKNOWN.sub("", text)


def frames(head: dict[str, Any], events: list[tuple[float, str]]) -> list[Frame]:
    """Return the screens that differ from the one before, each as long as it was seen."""
    screen = pyte.Screen(head["width"], head["height"])
    stream = pyte.Stream(screen)
    found: list[Frame] = []
    for place, (when, text) in enumerate(events):
        stream.feed(known(text))
        last = place + 1 == len(events)
        seconds = LAST if last else min(events[place + 1][0] - when, LONGEST)
        rows = _rows(screen)
        if found and (found[-1].rows == rows or found[-1].seconds < SHORTEST):
            found[-1] = Frame(rows, found[-1].seconds + seconds)
        else:
            found.append(Frame(rows, seconds))
    return found


def _rows(screen: pyte.Screen) -> tuple[Row, ...]:
    return tuple(tuple(_pieces(screen, y)) for y in range(screen.lines))


def _pieces(screen: pyte.Screen, y: int) -> Iterator[Piece]:
    """Yield the pieces of a line that are seen: letters, or a colour behind nothing."""
    cells = [(_styled(screen, x, y), screen.buffer[y][x].data) for x in range(screen.columns)]
    for style, group in groupby(enumerate(cells), key=lambda each: each[1][0]):
        places = list(group)
        start, width = places[0][0], len(places)
        text = "".join(cell[1] for _, cell in places)
        if not style[1] and not style[4]:
            width -= len(text) - len(text.strip(" "))
            start += len(text) - len(text.lstrip(" "))
            text = text.strip(" ")
        if text:
            yield start, width, text, style


def _styled(screen: pyte.Screen, x: int, y: int) -> Style:
    """Return the style of a cell, that of the cursor turned around."""
    ink, paper, bold, italic, underlined = _style(screen.buffer[y][x])
    if (screen.cursor.x, screen.cursor.y) == (x, y) and not screen.cursor.hidden:
        ink, paper = paper or PAPER, ink
    return ink, paper, bold, italic, underlined


def _style(cell: Any) -> Style:
    ink, paper = _colour(cell.fg, INK), _colour(cell.bg, "")
    if cell.reverse:
        ink, paper = paper or PAPER, ink
    return ink, paper, cell.bold, cell.italics, cell.underscore


def _colour(name: str, default: str) -> str:
    return default if name == "default" else PALETTE.get(name, name)


def draw(head: dict[str, Any], found: list[Frame]) -> str:
    """Return the SVG of the screens, in a window with the recording's title."""
    width = head["width"] * ADVANCE + 2 * PAD
    inside = head["height"] * LINE
    height = inside + BAR + PAD
    names: dict[Row, str] = {}
    strip = []
    for i, frame in enumerate(found):
        for y, row in enumerate(frame.rows):
            if row:
                name = names.setdefault(row, f"l{len(names)}")
                strip.append(f'<use href="#{name}" y="{i * inside + y * LINE}"/>')
    lines = [f'<g id="{name}">{_line(row)}</g>' for row, name in names.items()]
    last = (len(found) - 1) * inside
    title = escape(head.get("title", ""))
    dots = "".join(
        f'<circle cx="{PAD + 6 + 18 * i}" cy="17" r="5.5" fill="#{colour}"/>'
        for i, colour in enumerate(("f07178", "e6c068", "8fce6f"))
    )
    return "\n".join(
        (
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}"'
                f' width="{width:g}" height="{height:g}" role="img" aria-label="{title}"'
                f' font-family="{FONT}" font-size="{SIZE}">'
            ),
            f"<style>{_keyframes(found, inside)}text{{white-space:pre}}</style>",
            f"<defs>{''.join(lines)}</defs>",
            f'<rect width="{width:g}" height="{height:g}" rx="9" fill="#{PAPER}"/>',
            f'<path d="M0 {BAR - 1}H{width:g}" stroke="#{FRAME}"/>{dots}',
            f'<text x="{width / 2:g}" y="22" text-anchor="middle" fill="#8a93a0">{title}</text>',
            f'<svg x="{PAD}" y="{BAR + 4}" width="{width - 2 * PAD:g}" height="{inside}">',
            f'<g id="s" transform="translate(0 {-last})">{"".join(strip)}</g>',
            "</svg>",
            "</svg>",
            "",
        )
    )


def _line(row: Row) -> str:
    """Return a line at the top of the window: what is behind the letters first."""
    behind = "".join(
        f'<rect x="{_place(x)}" width="{_place(width)}" height="{LINE}" fill="#{style[1]}"/>'
        for x, width, _, style in row
        if style[1]
    )
    letters = "".join(
        f'<text x="{_place(x)}" y="{LINE - 5}" textLength="{_place(width)}"{_attributes(style)}>'
        f"{escape(text, quote=False)}</text>"
        for x, width, text, style in row
        if text.strip() or style[4]
    )
    return behind + letters


def _attributes(style: Style) -> str:
    ink, _, bold, italic, underlined = style
    return (
        f' fill="#{ink}"'
        + ' font-weight="700"' * bold
        + ' font-style="italic"' * italic
        + ' text-decoration="underline"' * underlined
    )


def _place(columns: int) -> str:
    return f"{columns * ADVANCE:g}"


def _keyframes(found: list[Frame], inside: int) -> str:
    """Return the style that shows each screen for its time, again and again."""
    whole = sum(frame.seconds for frame in found)
    steps, passed = [], 0.0
    for i, frame in enumerate(found):
        steps.append(f"{100 * passed / whole:.2f}%{{transform:translateY({-i * inside}px)}}")
        passed += frame.seconds
    return (
        f"@keyframes k{{{''.join(steps)}}}"
        f"#s{{animation:k {whole:.2f}s step-end infinite}}"
        "@media (prefers-reduced-motion:reduce){#s{animation:none}}"
    )


def to_svg(path: Path) -> str:
    """Return the picture of a recording."""
    head, events = read(path)
    return draw(head, frames(head, events))

"""The card of a benchmark as a picture: bars from zero for each kind of test, values beside them.

One layout, drawn as SVG or as pixels: a list of texts, bars and rules with their places.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

from pitool.bench.card_content import Card, Group, Measured
from pitool.errors import MissingPart
from pitool.report.canvas import AXIS, FAINT, GRID, INK, PAPER, SERIES, Canvas, Colour
from pitool.report.scales import Scale, linear, plain
from pitool.report.text import shorten

WIDTH, MARGIN = 760, 32
# Where the bars begin and end; the values stand behind them.
BARS, BARS_END = 282, 590
BAR, STEP, NOTE_STEP = 16, 28, 19
# What finds room on a line.
TITLE_LETTERS, SUBTITLE_LETTERS, LABEL_LETTERS = 60, 90, 28
COLOURS = {"prefill": SERIES[0], "decode": SERIES[1]}
PIXELS = 2  # of a PNG, for each of the layout's


@dataclass(frozen=True, slots=True)
class Text:
    """A text at ``x`` and the line ``y``."""

    x: float
    y: float
    text: str
    size: int
    colour: Colour = INK
    anchor: str = "start"
    bold: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar from its upper left corner."""

    x: float
    y: float
    width: float
    height: float
    colour: Colour


@dataclass(frozen=True, slots=True)
class Rule:
    """A straight line."""

    x1: float
    y1: float
    x2: float
    y2: float
    colour: Colour
    width: float = 1.0


Item = Text | Bar | Rule


def svg(made: Card) -> bytes:
    """Return the card as a picture that every browser shows."""
    items, height = layout(made)
    canvas = Canvas(WIDTH, height, label=made.title)
    for item in items:
        match item:
            case Text():
                canvas.text(
                    item.x, item.y, item.text, item.size,
                    anchor=item.anchor, bold=item.bold, colour=item.colour,
                )  # fmt: skip
            case Bar():
                canvas.bar(item.x, item.y, item.width, item.height, item.colour)
            case Rule():
                canvas.rule(item.x1, item.y1, item.x2, item.y2, item.colour, item.width)
    return canvas.to_svg().encode()


def png(made: Card) -> bytes:
    """Return the same picture as pixels, as on a light page; MissingPart without Pillow."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        raise MissingPart(
            "a PNG needs Pillow, which is not installed",
            "run: pip install pillow, or choose an .svg",
        ) from None
    items, height = layout(made)
    image = Image.new("RGB", (WIDTH * PIXELS, round(height * PIXELS)), PAPER.light)
    draw = ImageDraw.Draw(image)
    for item in items:
        colour = item.colour.light
        match item:
            case Text():
                font = ImageFont.load_default(item.size * PIXELS)
                place = "rs" if item.anchor == "end" else "ms" if item.anchor == "middle" else "ls"
                xy = (item.x * PIXELS, item.y * PIXELS)
                draw.text(
                    xy, item.text, fill=colour, font=font, anchor=place, stroke_width=int(item.bold)
                )
            case Bar():
                box = (item.x, item.y, item.x + max(item.width, 1), item.y + item.height)
                draw.rounded_rectangle([n * PIXELS for n in box], radius=2 * PIXELS, fill=colour)
            case Rule():
                box = (item.x1, item.y1, item.x2, item.y2)
                draw.line([n * PIXELS for n in box], fill=colour, width=round(item.width * PIXELS))
    target = io.BytesIO()
    image.save(target, "PNG")
    return target.getvalue()


def layout(made: Card) -> tuple[list[Item], float]:
    """Return everything on the picture, in the order in which it is drawn, and the height."""
    y = MARGIN + 10.0
    items: list[Item] = [Text(MARGIN, y, shorten(made.title, TITLE_LETTERS), 22, bold=True)]
    if made.subtitle:
        y += 25
        items.append(Text(MARGIN, y, shorten(made.subtitle, SUBTITLE_LETTERS), 14, FAINT))
    y += 14
    for group in made.groups:
        items += _group(group, y)
        y += _height(group)
    y += 6
    items.append(Rule(MARGIN, y, WIDTH - MARGIN, y, GRID))
    y += 6
    for note in made.notes:
        y += NOTE_STEP
        items.append(Text(MARGIN, y, note, 12, FAINT))
    return items, y + MARGIN - 8


def _height(group: Group) -> float:
    return 30 + STEP * len(group.bars) + 34


def _group(group: Group, top: float) -> Iterator[Item]:
    """Yield the heading of a group, its axis with round ticks, and its bars."""
    head = top + 22
    yield Text(MARGIN, head, group.name, 15, bold=True)
    yield Text(BARS, head, f"tokens/s, more is better{_legend(group)}", 12, FAINT)
    first, last = top + 34, top + 34 + STEP * len(group.bars)
    most = max(max(bar.value + bar.deviation, bar.predicted or 0.0) for bar in group.bars)
    scale = linear([most if most > 0 else 1.0], BARS, BARS_END, most=5)
    for tick in scale.ticks:
        x = scale.at(tick)
        yield Rule(x, first, x, last, GRID if tick else AXIS)
        yield Text(x, last + 15, plain(tick), 11, FAINT, "middle")
    for number, bar in enumerate(group.bars):
        yield from _bar(bar, scale, first + STEP * number, COLOURS.get(group.key, SERIES[2]))


def _legend(group: Group) -> str:
    return "; line: as predicted" if any(bar.predicted for bar in group.bars) else ""


def _bar(bar: Measured, scale: Scale, top: float, colour: Colour) -> Iterator[Item]:
    middle = top + STEP / 2
    end = scale.at(bar.value)
    yield Text(MARGIN, middle + 5, shorten(bar.label, LABEL_LETTERS), 14)
    yield Bar(BARS, middle - BAR / 2, end - BARS, BAR, colour)
    if bar.deviation:
        ends = (max(bar.value - bar.deviation, 0.0), bar.value + bar.deviation)
        low, high = map(scale.at, ends)
        yield Rule(low, middle, high, middle, INK, 1.5)
    if bar.predicted:
        x = scale.at(bar.predicted)
        yield Rule(x, middle - BAR / 2 - 3, x, middle + BAR / 2 + 3, INK, 2)
    yield Text(WIDTH - MARGIN, middle + 5, bar.text, 14, anchor="end", bold=True)

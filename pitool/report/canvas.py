"""Pictures as SVG that are read on a light page and on a dark one.

Owns the colours and what they are drawn with. Everything that is written is escaped: names come
from files that others wrote. Colours are attributes, which every program shows; a browser whose
page is dark takes the other ones from the style.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

RADIUS = 4.5
# Width of a character, as a share of the size of its font: of wide ones, so that nothing is cut.
CHARACTER = 0.62


@dataclass(frozen=True, slots=True)
class Colour:
    """A colour on a light page and its like on a dark one; ``name``: its class in the style."""

    name: str
    light: str
    dark: str


PAPER = Colour("paper", "#ffffff", "#0d1117")
INK = Colour("ink", "#1f2328", "#e6edf3")
FAINT = Colour("faint", "#59636e", "#9aa4af")
GRID = Colour("grid", "#e4e8ec", "#262c35")
AXIS = Colour("axis", "#a8b1bb", "#56606b")
GREY = Colour("grey", "#767d85", "#8b949e")
# Told apart by people who do not see colours as most do: after Okabe and Ito, darker on light
# paper where theirs are too faint to be seen there.
SERIES = (
    Colour("blue", "#0072b2", "#4fa8e0"),
    Colour("vermillion", "#d55e00", "#f0844a"),
    Colour("green", "#008f68", "#2fc39a"),
    Colour("purple", "#b0528a", "#dd93bd"),
    Colour("amber", "#a87400", "#e6b143"),
    Colour("sky", "#2a86b8", "#8fd0f2"),
    Colour("black", "#1f2328", "#e6edf3"),
)


class Canvas:
    """Collects what is drawn, in the order in which it is drawn."""

    def __init__(self, width: float, height: float, *, label: str) -> None:
        self.width, self.height = width, height
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}"'
            f' viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}"'
            ' font-family="system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial,'
            ' sans-serif">'
        )
        frame = f'<rect x=".5" y=".5" width="{width - 1:g}" height="{height - 1:g}" rx="8"'
        self._parts = [head, _STYLE, f"{frame} {_paint(PAPER, GRID)}/>"]

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: int,
        *,
        anchor: str = "start",
        bold: bool = False,
        colour: Colour = INK,
        halo: bool = False,
    ) -> None:
        """Write ``text`` from ``x`` on, up to it (``end``) or around it (``middle``).

        ``halo``: paper around the letters, so that lines behind them are no part of them.
        """
        weight = ' font-weight="600"' if bold else ""
        around = ' paint-order="stroke" stroke-width="3"' if halo else ""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{weight}'
            f" {_paint(colour, PAPER if halo else None)}{around}>{escape(text)}</text>"
        )

    def mark(self, x: float, y: float, colour: Colour, *, hollow: bool, hint: str = "") -> None:
        """Draw a round mark; ``hint`` is shown where it is pointed at."""
        title = f"<title>{escape(hint)}</title>" if hint else ""
        self._parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS}"'
            f' {_paint(PAPER if hollow else colour, colour)} stroke-width="1.5">{title}</circle>'
        )

    def bar(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        """Draw a bar from its upper left corner."""
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height:.1f}"'
            f' rx="2" {_paint(colour)}/>'
        )

    def line(
        self, points: Iterable[tuple[float, float]], colour: Colour, *, dashed: bool = False
    ) -> None:
        """Draw a line through points."""
        listed = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashes = ' stroke-dasharray="5 3"' if dashed else ""
        self._parts.append(
            f'<polyline points="{listed}" {_paint(None, colour)} stroke-width="1.6"{dashes}/>'
        )

    def rule(
        self, x1: float, y1: float, x2: float, y2: float, colour: Colour, width: float = 1
    ) -> None:
        """Draw a straight line of an axis or a grid."""
        self._parts.append(
            f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" {_paint(None, colour)}'
            f' stroke-width="{width:g}"/>'
        )

    def to_svg(self) -> str:
        """Return the picture."""
        return "\n".join([*self._parts, "</svg>", ""])


def text_width(text: str, size: float) -> float:
    """Return the pixels that a text takes at most, whatever the font."""
    return len(text) * size * CHARACTER


def _paint(fill: Colour | None, stroke: Colour | None = None) -> str:
    """Return the attributes of a fill and an outline, each as a colour and as a class."""
    classes = [f"f-{fill.name}"] if fill else []
    classes += [f"s-{stroke.name}"] if stroke else []
    outline = f' stroke="{stroke.light}"' if stroke else ""
    return f'class="{" ".join(classes)}" fill="{fill.light if fill else "none"}"{outline}'


def _style() -> str:
    rules = "".join(
        f".f-{colour.name}{{fill:{colour.dark}}}.s-{colour.name}{{stroke:{colour.dark}}}"
        for colour in (PAPER, INK, FAINT, GRID, AXIS, GREY, *SERIES)
    )
    return f"<style>@media (prefers-color-scheme:dark){{{rules}}}</style>"


_STYLE = _style()

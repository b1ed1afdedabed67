"""Pictures: names cannot become markup, and every colour is seen on a light and on a dark page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from pitool.report import canvas
from pitool.report.canvas import FAINT, GREY, INK, PAPER, SERIES, Canvas

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '"><script>alert(1)</script>&'


def luminance(colour: str) -> float:
    """Return WCAG's relative luminance of ``#rrggbb``."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_measure_of_contrast_by_hand() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # WCAG's own example


@pytest.mark.parametrize("page", ["light", "dark"])
def test_every_colour_is_seen_on_both_pages(page: str) -> None:
    paper = getattr(PAPER, page)
    for text in (INK, FAINT):
        assert contrast(getattr(text, page), paper) >= 4.5
    for graphic in (GREY, *SERIES):
        assert contrast(getattr(graphic, page), paper) >= 3.0


def test_what_is_drawn_has_its_dark_colour_in_the_style() -> None:
    drawing = Canvas(10, 10, label="x")
    drawing.text(0, 0, "t", 11, halo=True)
    drawing.mark(0, 0, SERIES[1], hollow=True)
    drawing.bar(0, 0, 5, 5, SERIES[2])
    drawing.line([(0, 0), (1, 1)], SERIES[3])
    drawing.rule(0, 0, 1, 1, canvas.GRID)
    made = drawing.to_svg()
    styled = set(re.findall(r"\.([fs]-\w+)\{", made))
    used = {name for names in re.findall(r'class="([^"]*)"', made) for name in names.split()}
    assert {"f-ink", "s-paper", "f-paper", "s-vermillion", "f-green", "s-purple"} <= used <= styled
    for element in ElementTree.fromstring(made).iter():
        for name in (element.get("class") or "").split():
            attribute = {"f": "fill", "s": "stroke"}[name[0]]
            assert element.get(attribute, "").startswith("#")


def test_names_cannot_become_markup() -> None:
    drawing = Canvas(10, 10, label=HOSTILE)
    drawing.text(0, 0, HOSTILE, 11)
    drawing.mark(0, 0, INK, hollow=True, hint=HOSTILE)
    read = ElementTree.fromstring(drawing.to_svg())
    assert [t.text for t in read.iter(f"{SVG}text")] == [HOSTILE]
    assert read.get("aria-label") == HOSTILE
    assert read.find(f".//{SVG}script") is None

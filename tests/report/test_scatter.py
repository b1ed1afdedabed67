"""Scatter plots: what is drawn lies inside, labels cover nothing, axes say what is better."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pitool.report import scatter
from pitool.report.canvas import INK, PAPER, SERIES, text_width
from pitool.report.scatter import Axis, Front, Mark, Scatter

SVG = "{http://www.w3.org/2000/svg}"
POSITIVE = st.floats(1e-4, 1e4)
SIZE, SPEED = Axis("size in GB", "less"), Axis("decode in tokens/s", "more")


def mark(label: str, x: float, y: float, *, hollow: bool = False) -> Mark:
    return Mark(label, x, y, SERIES[0], f"{label} hint", hollow)


def drawn(marks: Sequence[Mark], **rest: Any) -> ElementTree.Element:
    return ElementTree.fromstring(Scatter("t", SIZE, SPEED, marks, **rest).to_svg())


def texts(drawing: ElementTree.Element) -> list[ElementTree.Element]:
    return list(drawing.iter(f"{SVG}text"))


def box(text: ElementTree.Element) -> tuple[float, float, float, float]:
    x, y = float(text.get("x", -1)), float(text.get("y", -1))
    width = text_width(text.text or "", scatter.SIZE)
    left = x - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[text.get("text-anchor", "start")]
    return (left, y - 10, left + width, y)


@given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=12), st.booleans())
def test_marks_lie_inside_and_labels_cover_nothing(
    places: list[tuple[float, float]], log: bool
) -> None:
    marks = [mark(f"label-{i}", x, y) for i, (x, y) in enumerate(places)]
    drawing = drawn(marks, fronts=[Front(INK, marks[:3])], level=(5.0, "words"), log=log)
    found = [c for c in drawing.iter(f"{SVG}circle") if c.find(f"{SVG}title") is not None]
    assert len(found) == len(marks)
    centres = [(float(c.get("cx", -1)), float(c.get("cy", -1))) for c in found]
    for x, y in centres:
        assert scatter.LEFT <= x <= scatter.WIDTH - scatter.RIGHT
        assert 0 < y <= scatter.HEIGHT - scatter.BOTTOM
    named = [box(t) for t in texts(drawing) if (t.text or "").startswith("label-")]
    for i, (left, top, right, bottom) in enumerate(named):
        assert left >= scatter.LEFT
        assert right <= scatter.WIDTH
        assert not any(left < x < right and top < y < bottom for x, y in centres)
        for other in named[i + 1 :]:
            apart = right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
            assert apart


def test_the_axes_say_their_units_and_what_is_better() -> None:
    found = {t.text for t in texts(drawn([mark("a", 1, 1)]))}
    assert {"size in GB (less is better) ←", "↑ decode in tokens/s (more is better)"} <= found


def test_a_level_is_drawn_where_the_axis_has_it() -> None:
    for most, expected in ((9.0, 1), (3.0, 0), (900.0, 0)):  # not on it, and at its very end
        drawing = drawn([mark("a", 1, most)], level=(5.0, "people read"))
        lines = [e for e in drawing.iter(f"{SVG}polyline") if e.get("stroke-dasharray")]
        assert len(lines) == expected
        assert [t.text for t in texts(drawing)].count("people read") == expected


def test_the_words_of_a_level_give_way_to_a_mark() -> None:
    drawing = drawn([mark("a", 9.4, 5.2), mark("b", 1, 8)], level=(5.0, "people read"))
    (words,) = [t for t in texts(drawing) if t.text == "people read"]
    assert box(words)[2] < scatter.WIDTH / 2


def test_a_hollow_mark_has_the_colour_of_the_paper() -> None:
    drawing = drawn([mark("a", 1, 1, hollow=True), mark("b", 2, 2)])
    fills = [c.get("fill") for c in drawing.iter(f"{SVG}circle")]
    assert fills == [PAPER.light, SERIES[0].light]


def test_a_long_legend_takes_several_lines() -> None:
    legend = [(f"a board with a long name {i}", SERIES[0], False) for i in range(9)]
    drawing = drawn([mark("a", 1, 1)], legend=legend)
    found = [t for t in texts(drawing) if (t.text or "").startswith("a board")]
    assert len(found) == 9
    assert len({t.get("y") for t in found}) > 1
    assert max(box(t)[2] for t in found) <= scatter.WIDTH

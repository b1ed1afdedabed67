"""Pictures: what is drawn lies inside, labels cover nothing, and names cannot become markup."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pitool.report import svg
from pitool.report.svg import Canvas, Mark, Scatter, linear, logarithmic

SVG = "{http://www.w3.org/2000/svg}"
POSITIVE = st.floats(1e-4, 1e4)
HOSTILE = '"><script>alert(1)</script>&'


def mark(label: str, x: float, y: float) -> Mark:
    return Mark(label, x, y, svg.COLOURS[0], f"{label} hint")


def texts(drawing: ElementTree.Element) -> list[ElementTree.Element]:
    return list(drawing.iter(f"{SVG}text"))


@given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=12), st.booleans())
def test_marks_lie_inside_and_labels_cover_nothing(
    places: list[tuple[float, float]], log: bool
) -> None:
    marks = [mark(f"label-{i}", x, y) for i, (x, y) in enumerate(places)]
    drawing = ElementTree.fromstring(
        Scatter("t", "x", "y", marks, [("red", marks[:3])], log=log).to_svg()
    )
    drawn = [c for c in drawing.iter(f"{SVG}circle") if c.find(f"{SVG}title") is not None]
    assert len(drawn) == len(marks)
    centres = [(float(c.get("cx", -1)), float(c.get("cy", -1))) for c in drawn]
    for x, y in centres:
        assert svg.LEFT <= x <= svg.WIDTH - svg.RIGHT
        assert 0 < y <= svg.HEIGHT - svg.BOTTOM
    named = [t for t in texts(drawing) if (t.text or "").startswith("label-")]
    boxes = [
        (x, y - 10, x + len(t.text or "") * svg.CHARACTER, y)
        for t in named
        for x, y in [(float(t.get("x", -1)), float(t.get("y", -1)))]
    ]
    for i, (left, top, right, bottom) in enumerate(boxes):
        assert left >= svg.LEFT
        assert right <= svg.WIDTH
        assert not any(left < x < right and top < y < bottom for x, y in centres)
        for other in boxes[i + 1 :]:
            apart = right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
            assert apart


def test_an_axis_from_zero_ends_above_the_values_at_a_round_number() -> None:
    scale = linear([3.0, 8.7], 0, 100)
    assert list(scale.ticks) == [0, 2, 4, 6, 8, 10]
    assert (scale.at(0), scale.at(5), scale.at(10)) == (0, 50, 100)


@given(st.lists(POSITIVE, min_size=1, max_size=5))
def test_ticks_are_few_and_on_the_axis(values: list[float]) -> None:
    for scale in (linear(values, 0, 100), logarithmic(values, 0, 100)):
        assert len(scale.ticks) <= 10
        assert all(-1e-6 <= scale.at(tick) <= 100 + 1e-6 for tick in scale.ticks)
        assert all(0 <= scale.at(value) <= 100 for value in values)


def test_a_log_axis_by_hand() -> None:
    scale = logarithmic([1.0, 10.0], 0, 100)
    assert scale.ticks == pytest.approx((1, 2, 5, 10))
    assert scale.at(10) - scale.at(1) == pytest.approx(scale.at(5) - scale.at(0.5))


def test_names_cannot_become_markup() -> None:
    canvas = Canvas(10, 10, label=HOSTILE)
    canvas.text(0, 0, HOSTILE, 11)
    canvas.mark(0, 0, "red", hollow=True, hint=HOSTILE)
    drawing = ElementTree.fromstring(canvas.to_svg())
    assert [t.text for t in texts(drawing)] == [HOSTILE]
    assert drawing.get("aria-label") == HOSTILE
    assert drawing.find(f".//{SVG}script") is None


def test_a_long_legend_takes_several_lines() -> None:
    legend = [(f"a board with a long name {i}", "red", False) for i in range(9)]
    drawing = ElementTree.fromstring(
        Scatter("t", "x", "y", [mark("a", 1, 1)], legend=legend).to_svg()
    )
    found = [t for t in texts(drawing) if (t.text or "").startswith("a board")]
    assert len(found) == 9
    assert len({t.get("y") for t in found}) > 1
    ends = [float(t.get("x", 0)) + len(t.text or "") * svg.CHARACTER for t in found]
    assert max(ends) <= svg.WIDTH

"""The card as a picture: bars as long as their values, round ticks, nothing beside the paper."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pitool.bench import card_drawing
from pitool.bench.card_content import Card, Group, Measured
from pitool.report.canvas import AXIS, INK, SERIES, text_width

SVG = "{http://www.w3.org/2000/svg}"


def measured(
    label: str, value: float, deviation: float = 0.0, predicted: float | None = None
) -> Measured:
    return Measured(label, value, deviation, f"{value:.2f} ± {deviation:.2f}", predicted)


def card(
    *groups: Group, title: str = "Raspberry Pi 5", notes: tuple[str, ...] = ("a note",)
) -> Card:
    return Card(title, "sample Q4_K_M, 4 threads", (), groups, notes)


def drawn(made: Card) -> ElementTree.Element:
    return ElementTree.fromstring(card_drawing.svg(made))


def bars(drawing: ElementTree.Element, colour: str) -> list[float]:
    return [float(e.get("width", 0)) for e in drawing.iter(f"{SVG}rect") if e.get("fill") == colour]


def said(drawing: ElementTree.Element) -> list[str]:
    return [e.text or "" for e in drawing.iter(f"{SVG}text")]


def test_bars_are_as_long_as_their_values_each_kind_on_an_axis_of_its_own() -> None:
    prefill = Group("prefill", "Prefill", (measured("pp512", 90.0), measured("pp128", 45.0)))
    decode = Group("decode", "Decode", (measured("tg128", 9.0),))
    drawing = drawn(card(prefill, decode))
    long, short = bars(drawing, SERIES[0].light)
    assert long == pytest.approx(2 * short, abs=0.2)
    (alone,) = bars(drawing, SERIES[1].light)
    assert alone == pytest.approx(long, abs=0.2)  # 9 of 10 as 90 of 100
    assert long == pytest.approx(0.9 * (card_drawing.BARS_END - card_drawing.BARS), abs=0.2)
    for tick in ("0", "20", "100", "2", "10"):
        assert tick in said(drawing)
    assert said(drawing).count("tokens/s, more is better") == 2
    assert {"90.00 ± 0.00", "pp128", "a note", "sample Q4_K_M, 4 threads"} <= set(said(drawing))


def test_what_was_predicted_and_how_much_it_varied_are_marked_on_the_bar() -> None:
    made = card(Group("decode", "Decode", (measured("tg128", 8.0, 1.0, predicted=10.0),)))
    drawing = drawn(made)
    rules = [e.get("d", "") for e in drawing.iter(f"{SVG}path") if e.get("stroke") == INK.light]
    xs = [[float(point.split()[0]) for point in d[1:].split("L")] for d in rules]
    (width,) = bars(drawing, SERIES[1].light)
    per_token = width / 8
    deviation, prediction = xs
    assert deviation[1] - deviation[0] == pytest.approx(2 * per_token, abs=0.3)
    assert prediction[0] == pytest.approx(card_drawing.BARS + 10 * per_token, abs=0.3)
    assert "tokens/s, more is better; line: as predicted" in said(drawing)


names = st.text(st.characters(categories=("L", "N")), max_size=60)
values = st.floats(1e-6, 1e8)


@given(st.lists(st.tuples(names, values, values), min_size=1, max_size=6))
def test_everything_is_on_the_paper_whatever_the_figures(
    rows: list[tuple[str, float, float]],
) -> None:
    group = Group("both", "Both", tuple(measured(*row) for row in rows))
    items, height = card_drawing.layout(card(group))
    for item in items:
        match item:
            case card_drawing.Text(x=x, y=y):
                assert 0 <= x <= card_drawing.WIDTH and 0 <= y <= height
            case card_drawing.Bar(x=x, y=y, width=width, height=tall):
                assert x >= 0 and x + width <= card_drawing.BARS_END + 0.01
                assert y >= 0 and y + tall <= height
            case card_drawing.Rule(x1=x1, x2=x2, y1=y1, y2=y2):
                assert min(x1, x2) >= 0 and max(x1, x2) <= card_drawing.WIDTH
                assert min(y1, y2) >= 0 and max(y1, y2) <= height
    labels = [item for item in items if isinstance(item, card_drawing.Text) and item.size == 14]
    for label in labels:
        if label.anchor == "start" and label.x == card_drawing.MARGIN and label.colour is INK:
            assert label.x + text_width(label.text, 14) <= card_drawing.BARS


def test_no_speed_at_all_is_drawn_as_none() -> None:
    drawing = drawn(card(Group("decode", "Decode", (measured("tg1", 0.0),))))
    assert bars(drawing, SERIES[1].light) == [1.0]
    assert any(e.get("stroke") == AXIS.light for e in drawing.iter(f"{SVG}path"))

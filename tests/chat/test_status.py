"""Figures of a chat as text."""

from __future__ import annotations

from pitool.catalog.manifest import Speed
from pitool.chat.status import speed_span


def test_span_of_speeds() -> None:
    speeds = (Speed("a", 1, 8.14), Speed("b", 1, 12.4))
    assert speed_span(speeds) == "8.1–12.4"
    assert speed_span(speeds[:1]) == "8.1"
    assert speed_span(()) == "–"

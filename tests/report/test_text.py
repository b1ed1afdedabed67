"""Widths, wrapping and shortening of text on a terminal."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pitool.report import text


class Stream(io.StringIO):
    """Says whether it is a terminal."""

    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


NAME_OF_PAIR = st.text(st.characters(codec="ascii", categories=("L", "N")), max_size=28)
TEXT = st.text(st.characters(categories=("L", "N", "P", "Zs")), max_size=120)


@given(TEXT, st.integers(3, 100))
def test_shortened_text_fits_and_keeps_both_ends(value: str, width: int) -> None:
    short = text.shorten(value, width)
    assert text.columns(short) <= width
    if text.columns(value) > width:
        first, _, last = short.partition(text.ELLIPSIS)
        assert value.startswith(first)
        assert value.endswith(last)
    else:
        assert short == value


@given(TEXT, st.integers(4, 100))
def test_wrapped_text_fits_and_loses_nothing(value: str, width: int) -> None:
    lines = text.wrap(value, width, indent="  ")
    assert all(text.columns(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(value.split())


def test_wide_characters_take_two_columns() -> None:
    assert text.columns("模型") == 4
    assert text.columns("é") == text.columns("e\u0301") == 1
    assert text.pad("模型", 6) == "模型  "
    assert text.shorten("模型模型模型", 7) == "模型…型"


@pytest.mark.parametrize(("told", "width"), [("60", 60), ("0", 80), ("x", 80), ("", 80)])
def test_the_width_that_the_environment_tells(
    told: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", told)
    assert text.terminal_width(Stream()) == width


@pytest.mark.parametrize(
    ("terminal", "no_colour", "kind", "shown"),
    [(True, "", "xterm", True), (True, "1", "xterm", False), (True, "", "dumb", False),
     (False, "", "xterm", False)],
)  # fmt: skip
def test_colours_are_for_terminals_that_want_them(
    terminal: bool, no_colour: str, kind: str, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", no_colour)
    monkeypatch.setenv("TERM", kind)
    assert text.shows_colour(Stream(terminal=terminal)) is shown


def test_pairs_by_hand() -> None:
    rows = [("/set NAME", "change a number of the sampling"), ("/new", "begin")]
    assert text.pairs(rows, 36) == [
        ("/set NAME  ", "change a number of the"),
        (" " * 11, "sampling"),
        ("/new       ", "begin"),
    ]
    assert text.pairs(rows, 34) == [  # less than LEAST_BESIDE is left
        ("/set NAME", ""), ("  ", "change a number of the sampling"), ("/new", ""), ("  ", "begin"),
    ]  # fmt: skip
    assert text.pairs([("a", "")], 80) == [("a  ", "")]


@given(st.lists(st.tuples(NAME_OF_PAIR, TEXT), max_size=5), st.integers(30, 100))
def test_no_line_of_pairs_is_wider_than_asked(rows: list[tuple[str, str]], width: int) -> None:
    for left, right in text.pairs(rows, width):
        assert text.columns(left) + text.columns(right) <= width

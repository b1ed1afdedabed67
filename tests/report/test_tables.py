"""Tables in any width: no line is wider, no figure is cut, and columns leave in their order."""

from __future__ import annotations

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pitool.report.tables import Column, Section, fit_line, to_csv, to_markdown, to_text
from pitool.report.text import WIDTH, columns

WIDTHS = (60, 80, 100, 200)
NAMES = st.lists(st.sampled_from(["pi4b", "cm4", "pi500plus", "zero2w"]), min_size=1, max_size=8)
# Names of files: of any script, without what is no sign to see.
NAME = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=90)
VERDICT = st.sampled_from(["fits 1.25", "tight 0.01", "no 12.50", "29848/3019", "–"])


@given(st.lists(NAMES, min_size=1, max_size=4), st.integers(1, 5))
def test_a_wide_first_column_is_wrapped(boards: list[list[str]], count: int) -> None:
    figures = ["29848/3019"] * count
    rows = [[", ".join(names), *figures] for names in boards]
    text = to_text([Section("t", ["board", *["Q8_0"] * count], rows, [])])
    lines = text.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert text.count("29848/3019") == len(boards) * count
    words = [w for line in lines[3:] for w in line.replace(",", " ").split() if "/" not in w]
    assert words == [name for names in boards for name in names]


def test_a_table_that_fits_is_left_alone() -> None:
    assert to_text([Section("t", ["a", "b"], [["x, y", "1"]])]) == "t\na     b\n-------\nx, y  1"


@given(st.lists(st.tuples(NAME, NAME, VERDICT, VERDICT), min_size=1, max_size=5),
       st.integers(0, 9), st.sampled_from(WIDTHS))  # fmt: skip
def test_no_line_is_wider_and_no_verdict_is_cut(
    rows: list[tuple[str, str, str, str]], more: int, width: int
) -> None:
    heads = [
        Column("name", "left", "middle"),
        Column("words", "left", "wrap"),
        Column("verdict", "left"),
        *(Column(f"figure {i}") for i in range(more)),
        Column("leaves", priority=1),
    ]
    cells = [[name, words, verdict, *[figure] * more, "?"] for name, words, verdict, figure in rows]
    text = to_text([Section("a title", heads, cells, ["a note"])], width)
    assert max(map(columns, text.splitlines())) <= width
    for verdict in {row[2] for row in rows} | {row[3] for row in rows if more}:
        shown = sum(row[2] == verdict for row in rows)
        shown += more * sum(row[3] == verdict for row in rows)
        assert text.count(verdict) >= shown


@pytest.mark.parametrize(
    ("width", "shown", "dropped"),
    [
        (60, "name verdict speed size made", None),
        (59, "name verdict speed size", "made"),
        (53, "name verdict speed", "size, made"),
        (47, "name verdict", "speed, size, made"),
        (21, "name verdict", "speed, size, made"),
    ],
)
def test_columns_leave_by_priority(width: int, shown: str, dropped: str | None) -> None:
    heads = [
        Column("name", "left", "middle"),
        Column("verdict", "left"),
        Column("speed", priority=1),
        Column("size", priority=2),
        Column("made", priority=2),
    ]
    text = to_text([Section("", heads, [["a" * 30, "fits 12.5", "12.3", "1.2", "2026"]])], width)
    assert text.splitlines()[0].split() == shown.split()
    said = " ".join(text.splitlines()[3:])
    assert " ".join(said.split()) == (f"not shown in {width} columns: {dropped}" if dropped else "")


def test_what_must_stay_goes_on_below() -> None:
    heads = [Column("quant", "left"), *(Column(tier) for tier in ("1gb", "2gb", "4gb"))]
    text = to_text([Section("", heads, [["Q4_0", "no 12.34", "tight 0.12", "fits 1.25"]])], 30)
    assert text.splitlines() == [
        "quant       1gb         2gb",
        "---------------------------",
        "Q4_0   no 12.34  tight 0.12",
        "",
        "quant        4gb",
        "----------------",
        "Q4_0   fits 1.25",
    ]


def test_names_are_shortened_in_the_middle_unless_they_would_look_alike() -> None:
    heads = [Column("name", "left", "middle"), Column("size")]
    long = "qwen2.5-0.5b-instruct-of-the-workshop-4gb"
    other = long.replace("instruct", "finetune")
    assert "qwen2…-4gb  1 GB" in to_text([Section("", heads, [[long, "1 GB"]])], 16)
    lines = to_text([Section("", heads, [[long, "1 GB"], [other, "2 GB"]])], 24).splitlines()[2:]
    assert "".join(line[:18].strip() for line in lines) == long + other


def test_what_a_terminal_would_obey_is_replaced() -> None:
    text = to_text([Section("", ["name"], [["a\x1b[2Jb\nc"]])])
    assert text.splitlines()[-1] == "a\ufffd[2Jb c"


def test_colours_are_there_only_where_they_are_asked_for() -> None:
    heads = [Column("name", "left"), Column("fit", "left", colours={"no": "red"})]
    section = Section("", heads, [["a", "no 1.5"], ["b", "fits"]], bold={1})
    assert "\x1b" not in to_text([section])
    lines = to_text([section], colour=True).splitlines()
    assert lines[2] == "a     \x1b[31mno 1.5\x1b[0m"
    assert lines[3].startswith("\x1b[1m")


def test_markdown_has_every_column_and_no_cell_ends_a_row() -> None:
    heads = [Column("name", "left"), Column("size", priority=9)]
    lines = to_markdown([Section("t", heads, [["a|b\nc", "1"]], ["note"])]).splitlines()
    assert lines == ["**t**", "", "| name | size |", "| --- | --: |", "| a/b c | 1 |", "", "note"]


def test_csv_reads_back() -> None:
    found = list(csv.reader(to_csv(["a", "b"], [["x,\ny", None], [1.5, '"']]).splitlines(True)))
    assert found == [["a", "b"], ["x,\ny", ""], ["1.5", '"']]


def test_a_line_of_a_stream_loses_what_may_go() -> None:
    cells, order = ["12:00:00", "1.24 GB", "2400 MHz", "throttled"], [0, 0, 1, 0]
    assert fit_line(cells, order, 80) == "12:00:00  1.24 GB  2400 MHz  throttled"
    assert fit_line(cells, order, 37) == "12:00:00  1.24 GB  throttled"


def test_the_note_of_a_column_stands_where_the_column_does() -> None:
    speed = Column("t/s", priority=2, note="t/s: predicted")
    section = Section("", [Column("bundle", "left"), speed], [["a" * 30, "9.0"]], ["more"])
    assert to_text([section], 80).splitlines()[-2:] == ["t/s: predicted", "more"]
    narrow = to_text([section], 32)
    assert "predicted" not in narrow
    assert "not shown in 32 columns: t/s" in narrow
    assert to_markdown([section]).split("\n\n")[-2:] == ["t/s: predicted", "more"]


def test_rows_that_the_first_column_does_not_tell_apart_are_paragraphs_where_it_is_narrow() -> None:
    heads = [
        Column("bundle", "left"), Column("artifact", "left"), Column("here", "left"),
        Column("t/s", priority=1, note="t/s: predicted"),
    ]  # fmt: skip
    rows = [["many", "gguf Q8_0", "fits 1.25 GB", "4.5"], ["many", "gguf Q4_0", "tight", "9.0"]]
    section = Section("", heads, rows)
    assert to_text([section], 30).splitlines() == [
        "many: artifact gguf Q8_0,",
        "  here fits 1.25 GB, t/s 4.5",
        "many: artifact gguf Q4_0,",
        "  here tight, t/s 9.0",
        "t/s: predicted",
    ]
    assert to_text([section], 80).splitlines()[0].split() == ["bundle", "artifact", "here", "t/s"]

"""What is printed is read by the programs that it is meant for."""

from __future__ import annotations

import csv
import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from pitool.bench import rows
from pitool.bench.artifact import MeasuredArtifact
from pitool.bench.printers import PRINTERS, SQL_TABLE, changed, marks
from pitool.bench.run import Result, Workload, measure
from pitool.device.activity import Look
from pitool.device.sensors import Reading, Throttled
from tests.bench.conftest import Recorder

SUBJECT = MeasuredArtifact(
    Path("it's.gguf"), "toy", "Q4_0", 3 << 20, None, {"pitool": "0.1.0"}, board='a, "b"'
)


# Another engine, of which more is known: its rows must have the same columns.
OTHER = replace(
    SUBJECT,
    versions={"pitool": "0.1.0", "onnxruntime": "1.31.1"},
    planned_memory=None,
    peak_memory=7 << 20,
)


def result(workload: Workload, bits: int = 0) -> Result:
    def look() -> Look:
        return Look(0.0, Reading(50.0, 2400.0, Throttled(bits)))

    return list(measure(Recorder([1.0, 2.0, 4.0]), [workload], 2, look))[-1]


def printed(name: str) -> str:
    lines: list[str] = []
    printer = PRINTERS[name](lines.append, ())
    for workload, subject in (
        (Workload(prompt=512), SUBJECT),
        (Workload(generate=128, depth=64), OTHER),
    ):
        printer.add(rows.row(result(workload), subject))
    printer.end()
    return "\n".join(lines)


def test_sqlite_reads_the_sql() -> None:
    database = sqlite3.connect(":memory:")
    database.executescript(printed("sql"))
    query = f"SELECT model_filename, n_prompt, n_gen, n_depth, avg_ts, board FROM {SQL_TABLE}"
    assert database.execute(query).fetchall() == [
        ("it's.gguf", 512, 0, 0, 192.0, 'a, "b"'),
        ("it's.gguf", 0, 128, 64, 48.0, 'a, "b"'),
    ]
    types = "SELECT typeof(planned_memory_bytes), typeof(peak_memory_bytes), runtime_version"
    assert database.execute(f"{types} FROM {SQL_TABLE}").fetchall() == [
        ("integer", "null", None),
        ("null", "integer", "onnxruntime 1.31.1"),
    ]
    database.close()


def test_csv_has_the_same_rows_as_json() -> None:
    rows = json.loads(printed("json"))
    read = list(csv.DictReader(printed("csv").splitlines()))
    assert [list(row) for row in read] == [list(row) for row in rows]
    assert json.loads(read[0]["samples_ts"]) == rows[0]["samples_ts"] == [256.0, 128.0]
    assert read[1]["n_depth"] == "64"


def test_json_lines_are_the_rows_of_the_document() -> None:
    assert [json.loads(line) for line in printed("jsonl").splitlines()] == json.loads(
        printed("json")
    )


@pytest.mark.parametrize("name", ["table"])
def test_the_table_fits_80_columns(name: str) -> None:
    lines = printed(name).splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80
    assert "tg128 @ d64" in lines[2]


def test_the_load_mode_stands_above_the_tests_where_there_are_several() -> None:
    row = rows.row(result(Workload(prompt=512)), SUBJECT)
    assert changed(row) == []
    assert changed(row, {"load_mode"}) == [f"lm={row['load_mode']}"]
    lines: list[str] = []
    printer = PRINTERS["table"](lines.append, {"load_mode"})
    for mode in ("mmap", "none"):
        printer.add({**row, "load_mode": mode})
    assert [line for line in lines if line.startswith("with ")] == [
        "with lm=mmap:",
        "with lm=none:",
    ]


def test_throttled_repetitions_are_marked() -> None:
    def marked(bits: int) -> str:
        return marks(rows.row(result(Workload(prompt=512), bits), SUBJECT))

    assert marked(0x4) == "throttled 2/2"
    assert marked(0x5) == "low voltage 2/2 +1"
    # Throttled once since boot says nothing of these repetitions.
    assert marked(0x40000) == ""

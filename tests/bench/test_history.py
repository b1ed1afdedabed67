"""What is damaged in the history is left out and counted; the rest is shown."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pitool.bench import modes
from pitool.bench.history import History, read_rows
from pitool.errors import BadInput
from tests.fuzz.readers import bench_row


@pytest.mark.parametrize(
    "text",
    ["[]", "{", "null", json.dumps(bench_row(avg_ts="fast")), json.dumps(bench_row(n_gen=1.5)),
     json.dumps(bench_row(samples_ts=[-1])), json.dumps({"n_prompt": 1}), "[" * 100_000],
)  # fmt: skip
def test_a_damaged_row_is_left_out(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bench.sqlite"
    with closing(History(path)) as history:
        for run in ("one", "two"):
            history.add(bench_row(), run)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE bench SET row = ? WHERE run = 'one'", (text,))
    with closing(History(path)) as history:
        assert [row["run"] for row in history.rows()] == ["two"]
        assert history.damaged == 1


@pytest.mark.parametrize(
    "rows",
    [[bench_row(samples_ts=[float("nan")])], [bench_row(samples_ts=[1e300])], [[1]], [None],
     [bench_row(model_type=3)], [bench_row(n_prompt=10**400)], {"a": 1}],
)  # fmt: skip
def test_a_file_of_other_things_has_no_results(tmp_path: Path, rows: Any) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(BadInput, match="no benchmark results"):
        read_rows(str(path))


def test_figures_that_are_damaged_say_so() -> None:
    assert modes.words({"kind": "cold", "cold": 3}) == "its figures are damaged"
    assert modes.words({"kind": "../x"}) == "measured by another version of pitool"
    assert modes.chart({"kind": "sustained", "points": [{}]}) == []

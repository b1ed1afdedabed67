"""Writes results to a stream as they come: table, Markdown, CSV, JSON, JSON lines or SQL.

Markdown, CSV, JSON and SQL are llama-bench's, with our fields after its own; the table is for
people and fits 80 columns.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any, Protocol

from pitool.bench import formats
from pitool.bench.conditions import conditions
from pitool.bench.run import Result
from pitool.bench.subject import Subject
from pitool.engine.base import ModelInfo, Settings

Write = Callable[[str], object]
SQL_TABLE = "llama_bench"
_TABLE = {"artifact": -24, "test": -18, "threads": 7, "t/s": 19}
_DEFAULTS = Settings(context=0, decode_threads=0, prefill_threads=0)


class Printer(Protocol):
    """Gets every finished test once; ``end`` is called also after an interruption."""

    def add(self, result: Result, subject: Subject, /) -> None:
        """Write a result, or keep it until the end."""

    def end(self) -> None:
        """Write what is left."""


class Table:
    """For people: what differs from the defaults stands with the test, problems at the end."""

    def __init__(self, write: Write) -> None:
        self._write, self._begun = write, False

    def add(self, result: Result, subject: Subject) -> None:
        """Write a line, the head before the first one."""
        if not self._begun:
            self._begun = True
            self._write(_cells(dict(zip(_TABLE, _TABLE, strict=True))))
        name = subject.bundle or subject.file.stem
        if not name.endswith(subject.quantisation):
            name = f"{name} {subject.quantisation}"
        test = " ".join([result.workload.name, *changed(result.info)])
        rate = f"{result.avg_ts:.2f} ± {result.stddev_ts:.2f}"
        cells = {"artifact": name, "test": test, "threads": str(result.threads), "t/s": rate}
        self._write(f"{_cells(cells)}  {marks(result)}".rstrip())

    def end(self) -> None:
        """Write nothing more."""


class Markdown:
    """llama-bench's table."""

    def __init__(self, write: Write) -> None:
        self._write, self._begun = write, False

    def add(self, result: Result, _subject: Subject, /) -> None:
        """Write a line, the head before the first one."""
        if not self._begun:
            self._begun = True
            self._write(formats.head())
        self._write(formats.line(result))

    def end(self) -> None:
        """Write nothing more."""


class Json:
    """One document: a list of rows."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._rows: list[dict[str, Any]] = []

    def add(self, result: Result, subject: Subject) -> None:
        """Keep a row."""
        self._rows.append(formats.row(result, subject))

    def end(self) -> None:
        """Write the list, empty where nothing was measured."""
        self._write(json.dumps(self._rows, indent=2, ensure_ascii=False))


class JsonLines:
    """One document a line."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def add(self, result: Result, subject: Subject) -> None:
        """Write a row."""
        self._write(json.dumps(formats.row(result, subject), ensure_ascii=False))

    def end(self) -> None:
        """Write nothing more."""


class Csv:
    """Quoted values under a line of names; lists are JSON."""

    def __init__(self, write: Write) -> None:
        self._write, self._begun = write, False

    def add(self, result: Result, subject: Subject) -> None:
        """Write a row, the names before the first one."""
        row = flat(formats.row(result, subject))
        if not self._begun:
            self._begun = True
            self._write(",".join(row))
        line = io.StringIO()
        csv.writer(line, quoting=csv.QUOTE_ALL, lineterminator="").writerow(row.values())
        self._write(line.getvalue())

    def end(self) -> None:
        """Write nothing more."""


class Sql:
    """Statements that make and fill llama-bench's table, for sqlite3."""

    def __init__(self, write: Write) -> None:
        self._write, self._begun = write, False

    def add(self, result: Result, subject: Subject) -> None:
        """Write an insertion, the table before the first one."""
        row = flat(formats.row(result, subject))
        if not self._begun:
            self._begun = True
            columns = ",\n".join(f"  {name} {_sql_type(value)}" for name, value in row.items())
            self._write(f"CREATE TABLE IF NOT EXISTS {SQL_TABLE} (\n{columns}\n);\n")
        values = ", ".join(_sql_value(value) for value in row.values())
        self._write(f"INSERT INTO {SQL_TABLE} ({', '.join(row)}) VALUES ({values});")  # noqa: S608 - quoted

    def end(self) -> None:
        """Write nothing more."""


PRINTERS: dict[str, Callable[[Write], Printer]] = {
    "table": Table,
    "md": Markdown,
    "csv": Csv,
    "json": Json,
    "jsonl": JsonLines,
    "sql": Sql,
}


def changed(info: ModelInfo) -> list[str]:
    """Return what was set other than by default, by llama-bench's short flags.

    The KV cache's type is not set where it is the graph's own.
    """
    settings = info.settings
    whole = min(_DEFAULTS.micro_batch, settings.context)
    pairs: list[tuple[str, int | str, int | str]] = [
        ("b", settings.batch, _DEFAULTS.batch),
        ("ub", min(settings.micro_batch, settings.context), whole),
        ("fa", settings.flash_attention, _DEFAULTS.flash_attention),
    ]
    if info.engine != "onnx":
        pairs += [
            ("ctk", settings.kv_type, _DEFAULTS.kv_type),
            ("ctv", settings.value_type or settings.kv_type, _DEFAULTS.kv_type),
        ]
    return [f"{flag}={value}" for flag, value, default in pairs if value != default]


def marks(result: Result) -> str:
    """Return the problems of the repetitions, such as ``throttled 2/5``."""
    seen = [problem for c in conditions(result.looks) for problem in c.problems]
    total = len(result.samples_ns)
    return ", ".join(f"{name} {seen.count(name)}/{total}" for name in dict.fromkeys(seen))


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its lists as JSON texts and its booleans as numbers."""
    texts = {k: json.dumps(v) for k, v in row.items() if isinstance(v, list | dict)}
    return {**row, **texts, **{k: int(v) for k, v in row.items() if isinstance(v, bool)}}


def _cells(cells: dict[str, str]) -> str:
    return "  ".join(
        f"{cells[name]:{'<' if width < 0 else '>'}{abs(width)}}" for name, width in _TABLE.items()
    ).rstrip()


def _sql_type(value: object) -> str:
    return {int: "INTEGER", float: "REAL"}.get(type(value), "TEXT")


def _sql_value(value: object) -> str:
    if value is None:
        return "NULL"
    return "'" + str(value).replace("'", "''") + "'"

"""Writes rows to a stream as they come: table, Markdown, CSV, JSON, JSON lines or SQL.

Markdown, CSV, JSON and SQL are llama-bench's, with our fields after its own; the table is for
people and fits 80 columns.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection
from typing import Any, Protocol

from pitool.bench import rows
from pitool.bench.rows import BenchRow
from pitool.engine.base import Settings
from pitool.planning.formats import format_of_engine

Write = Callable[[str], object]
SQL_TABLE = "llama_bench"
_TABLE = {"artifact": -20, "test": -13, "thr": 3, "t/s": 17}
_DEFAULTS = Settings(context=0, decode_threads=0, prefill_threads=0)
# What stands for a problem in the narrow table; the summary has the whole words.
_SHORT = {
    "under-voltage": "low voltage",
    "frequency capped": "capped",
    "soft temperature limit": "soft limit",
    "other processes at work": "busy",
    "read from disk": "disk",
}


class Printer(Protocol):
    """Gets every finished test once; ``end`` is called also after an interruption."""

    def add(self, row: BenchRow, /) -> None:
        """Write a row, or keep it until the end."""

    def end(self) -> None:
        """Write what is left."""


class Table:
    """For people: settings other than the defaults stand above the tests, problems at the end."""

    def __init__(self, write: Write, varied: Collection[str] = ()) -> None:
        self._write, self._varied, self._begun = write, varied, False
        self._settings: list[str] = []

    def add(self, row: BenchRow, /) -> None:
        """Write a line, the head before the first one, settings where they change."""
        widths = {"host": -18, **_TABLE} if "host" in row else _TABLE
        if not self._begun:
            self._begun = True
            self._write(_cells(widths, dict(zip(widths, widths, strict=True))))
        if (settings := changed(row, self._varied)) != self._settings:
            self._settings = settings
            self._write(f"with {' '.join(settings) or 'default settings'}:")
        cells = {
            "host": str(row.get("host")),
            "artifact": rows.artifact_name(row),
            "test": rows.test_name(row),
            "thr": str(row["n_threads"]),
            "t/s": rows.rate(row),
        }
        self._write(f"{_cells(widths, cells)}  {marks(row)}".rstrip())

    def end(self) -> None:
        """Write nothing more."""


class Markdown:
    """llama-bench's table; ``varied`` are the fields that have several values in this run."""

    def __init__(self, write: Write, varied: Collection[str] = ()) -> None:
        self._write, self._varied = write, varied
        self._extra: tuple[str, ...] = ()
        self._build = ""

    def add(self, row: BenchRow, /) -> None:
        """Write a line, the head before the first one."""
        if not self._build:
            self._extra = rows.extra_columns(row, self._varied)
            self._write(rows.head(self._extra))
        self._build = row["build_commit"]
        self._write(rows.line(row, self._extra))

    def end(self) -> None:
        """Write which build measured, as llama-bench does."""
        if self._build:
            self._write(f"\nbuild: {self._build}")


class Json:
    """One document: a list of rows."""

    def __init__(self, write: Write, _varied: Collection[str] = ()) -> None:
        self._write = write
        self._rows: list[BenchRow] = []

    def add(self, row: BenchRow, /) -> None:
        """Keep a row."""
        self._rows.append(row)

    def end(self) -> None:
        """Write the list, empty where nothing was measured."""
        self._write(json.dumps(self._rows, indent=2, ensure_ascii=False))


class JsonLines:
    """One document a line."""

    def __init__(self, write: Write, _varied: Collection[str] = ()) -> None:
        self._write = write

    def add(self, row: BenchRow, /) -> None:
        """Write a row."""
        self._write(json.dumps(row, ensure_ascii=False))

    def end(self) -> None:
        """Write nothing more."""


class _Named:
    """Rows of the same columns, those of the first one."""

    def __init__(self, write: Write, _varied: Collection[str] = ()) -> None:
        self._write = write
        self._names: tuple[str, ...] = ()

    def add(self, row: BenchRow, /) -> None:
        """Write a row, what names the columns before the first one."""
        values = flat(row)
        if not self._names:
            self._names = tuple(values)
            self._begin(values)
        self._line([values.get(name) for name in self._names])

    def _begin(self, values: BenchRow) -> None:
        raise NotImplementedError

    def _line(self, values: list[Any]) -> None:
        raise NotImplementedError

    def end(self) -> None:
        """Write nothing more."""


class Csv(_Named):
    """Quoted values under a line of names; lists are JSON."""

    def _begin(self, _values: BenchRow) -> None:
        self._write(",".join(self._names))

    def _line(self, values: list[Any]) -> None:
        line = io.StringIO()
        csv.writer(line, quoting=csv.QUOTE_ALL, lineterminator="").writerow(values)
        self._write(line.getvalue())


class Sql(_Named):
    """Statements that make and fill a table, llama-bench's if no other is named, for sqlite3."""

    def __init__(self, write: Write, _varied: Collection[str] = (), table: str = SQL_TABLE) -> None:
        super().__init__(write)
        self._table = table

    def _begin(self, values: BenchRow) -> None:
        columns = ",\n".join(f"  {name} {_sql_type(name, v)}" for name, v in values.items())
        self._write(f"CREATE TABLE IF NOT EXISTS {self._table} (\n{columns}\n);\n")

    def _line(self, values: list[Any]) -> None:
        listed = ", ".join(map(_sql_value, values))
        self._write(f"INSERT INTO {self._table} ({', '.join(self._names)}) VALUES ({listed});")  # noqa: S608 - quoted


PRINTERS: dict[str, Callable[[Write, Collection[str]], Printer]] = {
    "table": Table,
    "md": Markdown,
    "csv": Csv,
    "json": Json,
    "jsonl": JsonLines,
    "sql": Sql,
}


def changed(row: BenchRow, varied: Collection[str] = ()) -> list[str]:
    """Return what was set other than by default, by llama-bench's short flags.

    The load mode has no default that holds for every artifact and board: it stands there where
    the run has several. onnxruntime has none of these settings.
    """
    if not format_of_engine(row["engine"]).tunable:
        return []
    fields: tuple[tuple[str, str, object], ...] = (
        ("b", "n_batch", _DEFAULTS.batch),
        ("ub", "n_ubatch", _DEFAULTS.micro_batch),
        ("fa", "flash_attn", -1),
        ("ctk", "type_k", _DEFAULTS.kv_type),
        ("ctv", "type_v", _DEFAULTS.kv_type),
        ("rpk", "repack", True),
        ("lm", "load_mode", None if "load_mode" in varied else row["load_mode"]),
    )
    return [
        f"{flag}={int(v) if isinstance(v := row[name], bool) else v}"
        for flag, name, default in fields
        if row[name] != default
    ]


def marks(row: BenchRow) -> str:
    """Return the problems of the repetitions, the most frequent first: ``throttled 2/5 +1``."""
    seen = [problem for condition in row["conditions"] for problem in condition["problems"]]
    names = sorted(dict.fromkeys(seen), key=seen.count, reverse=True)
    if not names:
        return ""
    first = f"{_SHORT.get(names[0], names[0])} {seen.count(names[0])}/{len(row['samples_ns'])}"
    return f"{first} +{len(names) - 1}" if len(names) > 1 else first


def flat(row: BenchRow) -> dict[str, Any]:
    """Return a row with its lists as JSON texts and its booleans as numbers."""
    texts = {k: json.dumps(v) for k, v in row.items() if isinstance(v, list | dict)}
    return {**row, **texts, **{k: int(v) for k, v in row.items() if isinstance(v, bool)}}


def _cells(widths: dict[str, int], cells: dict[str, str]) -> str:
    return "  ".join(
        f"{cells[name]:{'<' if width < 0 else '>'}{abs(width)}}" for name, width in widths.items()
    ).rstrip()


def _sql_type(name: str, value: object) -> str:
    return {int: "INTEGER", float: "REAL"}.get(rows.OUR_TYPES.get(name, type(value)), "TEXT")


def _sql_value(value: object) -> str:
    if value is None:
        return "NULL"
    return "'" + str(value).replace("'", "''") + "'"

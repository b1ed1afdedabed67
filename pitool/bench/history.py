"""All results measured on this machine, in one SQLite file; and the result files of bench.

A row is stored as the JSON values of ``rows.row``, with the searched values in columns.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from pitool.bench import rows
from pitool.bench.rows import BenchRow, test_name
from pitool.catalog import databases, reading
from pitool.catalog.bundles import home
from pitool.catalog.databases import BENCHMARKS, database_errors
from pitool.catalog.files import path_kind
from pitool.catalog.unicode import well_formed
from pitool.errors import BadInput, reason

Document = dict[str, Any]
"""What a mode measured, see ``modes``."""

FILE_NAME = BENCHMARKS.file_name
# What the view `results` shows of a row, for people with sqlite3.
SHOWN = (
    "stddev_ts",
    "n_threads",
    "board",
    "firmware",
    "kernel",
    "pitool_version",
    "runtime_version",
    "artifact_sha256",
)


# The fields that every document has and the list of results shows.
_HEAD = ("kind", "test_time", "model_filename", "quantisation")


class History:
    """The rows of this machine; several processes may add at once.

    ``damaged``: how many were left out when they were last read.
    """

    def __init__(self, path: Path) -> None:
        self._path, self.damaged = path, 0
        with database_errors(path):
            self._database = databases.connect(path, timeout=30)
            self._prepare()

    def _prepare(self) -> None:
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        BENCHMARKS.check_version(version)
        with self._database:
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS bench (id INTEGER PRIMARY KEY, run TEXT NOT NULL,"
                " test_time TEXT NOT NULL, bundle TEXT, quantisation TEXT NOT NULL,"
                " test TEXT NOT NULL, avg_ts REAL NOT NULL, row TEXT NOT NULL)"
            )
            named = ", ".join(f"json_extract(row, '$.{name}') AS {name}" for name in SHOWN)
            self._database.execute(
                "CREATE VIEW IF NOT EXISTS results AS SELECT run, test_time, bundle, quantisation,"  # noqa: S608 - constants
                f" test, avg_ts, {named} FROM bench"
            )
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS mode (id INTEGER PRIMARY KEY, run TEXT NOT NULL,"
                " kind TEXT NOT NULL, test_time TEXT NOT NULL, bundle TEXT,"
                " quantisation TEXT NOT NULL, document TEXT NOT NULL)"
            )
            self._database.execute(f"PRAGMA user_version = {BENCHMARKS.schema}")

    def add(self, row: BenchRow, run: str) -> None:
        """Keep a row of ``rows.row``; ``run`` groups what one command measured."""
        self._insert(
            "INSERT INTO bench (run, test_time, bundle, quantisation, test, avg_ts, row)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            run,
            row["test_time"],
            row["bundle"],
            row["quantisation"],
            test_name(row),
            row["avg_ts"],
            json.dumps(row, ensure_ascii=False),
        )

    def keep(self, document: Document, run: str) -> None:
        """Keep a document of a mode."""
        self._insert(
            "INSERT INTO mode (run, kind, test_time, bundle, quantisation, document)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            run,
            document["kind"],
            document["test_time"],
            document["bundle"],
            document["quantisation"],
            json.dumps(document, ensure_ascii=False),
        )

    def _insert(self, statement: str, *values: object) -> None:
        values = tuple(well_formed(each) if isinstance(each, str) else each for each in values)
        with database_errors(self._path), self._database:
            self._database.execute(statement, values)

    def rows(self, run: str | None = None, bundle: str | None = None) -> list[BenchRow]:
        """Return the rows, oldest first, each with its ``run``; of one run or bundle if named."""
        return self._found("SELECT run, row FROM bench", rows.check, run=run, bundle=bundle)

    def documents(
        self, kind: str | None = None, run: str | None = None, bundle: str | None = None
    ) -> list[Document]:
        """Return the documents in the same way, of one kind if named."""
        query = "SELECT run, document FROM mode"
        return self._found(query, _checked, kind=kind, run=run, bundle=bundle)

    def _found(
        self, query: str, check: Callable[[Any], dict[str, Any]], **wanted: str | None
    ) -> list[dict[str, Any]]:
        parts = [f"{name} = :{name}" for name, value in wanted.items() if value is not None]
        if parts:
            query += f" WHERE {' AND '.join(parts)}"
        with database_errors(self._path):
            found = self._database.execute(f"{query} ORDER BY id", wanted).fetchall()
        whole = []
        for name, text in found:
            with suppress(ValueError):
                whole.append({**check(reading.parse_json(str(text))), "run": str(name)})
        self.damaged = len(found) - len(whole)
        return whole

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def open_history() -> History:
    """Return the history of this machine."""
    return History(home() / FILE_NAME)


def read_rows(source: str) -> list[BenchRow]:
    """Return the rows of a JSON or JSON lines file, or of a run in the history.

    ``source``: a path, the name of a run, or ``latest`` and ``previous``. BadInput when it is none.
    """
    path = Path(source)
    if path_kind(path) == "file":
        return _file_rows(path)
    with closing(open_history()) as history:
        runs = list(dict.fromkeys(row["run"] for row in history.rows()))
        places = {"latest": -1, "previous": -2}
        if source in places and len(runs) >= -places[source]:
            source = runs[places[source]]
        found = history.rows(run=source)
    if not found:
        raise BadInput(
            f"{source!r} is neither a file nor a run in the history",
            "run pitool bench history to list the runs",
        )
    return found


def _file_rows(path: Path) -> list[BenchRow]:
    try:
        text = reading.read_bytes(path, reading.LARGEST_TABLE).decode()
        listed = reading.parse_json(text) if text.lstrip().startswith("[") else None
        found = map(reading.parse_json, text.splitlines()) if listed is None else listed
        return [rows.check(row, rows.COMPARED) for row in found]
    except OSError as error:
        raise BadInput(f"cannot read {path} ({reason(error)})", _WRITE_ONE) from None
    except ValueError as error:
        raise BadInput(f"{path} has no benchmark results ({error})", _WRITE_ONE) from None


_WRITE_ONE = "write one with -o json or jsonl"


def _checked(document: Any) -> Document:
    """Return a document that was read; ValueError for one that does not say what it is of."""
    if not isinstance(document, dict):
        raise ValueError("it is not an object")  # noqa: TRY004 - of a file, not of a caller
    if not isinstance(document.get("bundle"), str | None):
        raise ValueError("its bundle has no name")  # noqa: TRY004
    if not all(isinstance(document.get(name), str) for name in _HEAD):
        raise ValueError("it does not say what was measured")
    return {"bundle": None, **document}

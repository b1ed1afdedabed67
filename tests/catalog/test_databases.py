"""What pitool stores is its user's alone; a damaged file is said, with a way out that works."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pitool.bench.history import History
from pitool.catalog import databases
from pitool.catalog.databases import BENCHMARKS, CONVERSATIONS, StoredData
from pitool.catalog.files import make_private
from pitool.device.doctor.databases import databases as check
from pitool.device.doctor.finding import Finding
from pitool.errors import BadInput, DoesNotFit, PitoolError
from pitool.store.database import Database
from pitool.store.schema import MIGRATIONS

OPEN: dict[StoredData, Callable[[Path], object]] = {CONVERSATIONS: Database, BENCHMARKS: History}
KINDS = pytest.mark.parametrize("kind", OPEN, ids=lambda kind: kind.file_name)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def doctor() -> dict[str, Finding]:
    return {found.check: found for found in check(None)}  # type: ignore[arg-type]


@KINDS
def test_it_is_its_users_alone(kind: StoredData, private_home: Path) -> None:
    path = private_home / kind.file_name
    opened = OPEN[kind](path)
    assert mode(private_home) == 0o700
    assert {mode(file) for file in private_home.iterdir()} == {0o600}
    assert opened
    for loose in (path, path.with_name(path.name + "-wal")):
        loose.touch()
        loose.chmod(0o644)
    private_home.chmod(0o755)
    again = OPEN[kind](path)
    assert mode(private_home) == 0o700
    assert {mode(file) for file in private_home.iterdir()} == {0o600}
    assert again


@pytest.mark.parametrize(("folder_mode", "kept"), [(0o1777, 0o1777), (0o2775, 0o2775)])
def test_a_folder_that_is_shared_on_purpose_stays_so(
    tmp_path: Path, folder_mode: int, kept: int
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(folder_mode)
    make_private(folder / "f")
    assert (mode(folder), mode(folder / "f")) == (kept, 0o600)


def test_the_folder_of_a_home_keeps_its_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "users" / "me").mkdir(parents=True)
    (tmp_path / "users").chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path / "users" / "me"))
    make_private(tmp_path / "users" / "f")
    assert mode(tmp_path / "users") == 0o755


@KINDS
def test_a_whole_one_is_whole(kind: StoredData, private_home: Path) -> None:
    assert doctor() == {}
    OPEN[kind](private_home / kind.file_name)
    assert doctor()[kind.holds].severity == "ok"


def garbage(path: Path) -> None:
    path.write_bytes(b"no database " * 1000)


def torn(path: Path) -> None:
    """Overwrite every page but the first, as a dying card does."""
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:4096] + os.urandom(max(size - 4096, 8192)))


@KINDS
@pytest.mark.parametrize("harm", [garbage, torn])
def test_the_way_out_of_a_damaged_one_works(
    kind: StoredData, harm: Callable[[Path], None], private_home: Path
) -> None:
    path = private_home / kind.file_name
    opened = OPEN[kind](path)
    opened.close()  # type: ignore[attr-defined]
    harm(path)
    found = doctor()[kind.holds]
    assert (found.severity, "is damaged" in found.found) == ("fault", True)
    subprocess.run(["sh", "-c", found.fix], check=True)
    assert path.with_name(f"{path.name}.damaged").exists()
    OPEN[kind](path)
    assert doctor()[kind.holds].severity == "ok"


@KINDS
def test_one_of_a_newer_pitool_is_left_alone(kind: StoredData, private_home: Path) -> None:
    path = private_home / kind.file_name
    OPEN[kind](path).close()  # type: ignore[attr-defined]
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(BadInput, match="have schema version 99, and this pitool supports up to"):
        OPEN[kind](path)
    assert doctor()[kind.holds].fix == "update pitool"


def test_the_schema_that_is_known_is_the_newest() -> None:
    assert len(MIGRATIONS) == CONVERSATIONS.schema


def test_a_full_disk(private_home: Path) -> None:
    """SQLite's own word for it, from a database that may not grow."""
    said = r"cannot write to x \(the disk is full\): free some space"
    with pytest.raises(DoesNotFit, match=said), databases.database_errors(Path("x")):
        connection = databases.connect(private_home / "x.db")
        connection.execute("PRAGMA max_page_count = 2")
        connection.execute("CREATE TABLE t (b)")
        connection.execute("INSERT INTO t VALUES (zeroblob(100000))")


def test_a_wrong_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PitoolError, match="cannot be a folder, because a file is in its place"):
        Database(tmp_path / "file" / "x.db")
